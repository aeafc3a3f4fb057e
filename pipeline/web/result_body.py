"""The answer for a finished order. Pure.

The answer is a body for the HIS, or the error that says why there is none. It names what the file lacks, so that
nobody takes the file for complete.
"""

from collections import Counter
from dataclasses import asdict
from typing import Any

from pipeline.destinations import Destination
from pipeline.languages import Translation
from pipeline.model import LeftOutCode, OrderError, OrderState
from pipeline.orders import OrderView
from pipeline.orders.compare_sources import HisAnswer
from pipeline.web.http_errors import HttpError, kind_of

_OF_THE_WAY_OUT = {OrderError.PUBLISHER_UNREACHABLE, OrderError.RELAY_FAILED, OrderError.RELAY_INCOMPLETE}
_NO_RESULT = {*_OF_THE_WAY_OUT, OrderError.DISC_FAILED}
_TOLD = frozenset(  # Codes with a sentence of their own; for the others technical support reads the reason.
    {LeftOutCode.KIND, LeftOutCode.COMPRESSED, LeftOutCode.FILM, LeftOutCode.LARGE, LeftOutCode.DAMAGED}
)


def served(view: OrderView) -> bool:
    """Say whether an order achieved what was asked for: all of it, or as little as its client allowed."""
    if view.state == OrderState.DONE:
        return True
    was_allowed = view.incomplete_allowed or view.missing_allowed
    something = view.result is not None or arrived(view) > 0
    return view.state == OrderState.PARTIAL and was_allowed and something and view.error_kind not in _NO_RESULT


def arrived(view: OrderView) -> int:
    """Count the instances its destination has taken, by this order or an earlier one of the same request."""
    return view.sent + view.sent_before


def address_of(destination: Destination) -> str:
    """Return a destination as host:port, or its name if it is no peer."""
    about = destination.model_dump()
    return f"{about['host']}:{about['port']}" if {"host", "port"} <= about.keys() else destination.name


def sent_body(view: OrderView, destination: Destination) -> dict[str, Any]:
    """Return the body of an order that was sent to a peer; an endpoint that names the patient adds the name."""
    body: dict[str, Any] = {
        "status": "ok",
        "accessions_sent": [number for number in view.accessions if number not in view.missing],
        "destination": address_of(destination),
        "files_sent": arrived(view),
        "already_sent": view.already_sent,
    }
    if view.missing:
        body["missing"] = list(view.missing)
    if view.counted is not None:
        body |= {"counted": view.counted, "received": view.received}
    if view.expected is not None and view.received < view.expected:
        body |= {"incomplete": True, "received": view.received, "expected": view.expected}
    return body | _whose(view)


def _whose(view: OrderView) -> dict[str, Any]:
    """Return the part about the patient's identity, empty if there is nothing to report."""
    said: dict[str, Any] = {}
    if view.differing:
        said["differing"] = [difference.as_row() for difference in view.differing]
    if view.noted:
        said["noted"] = [difference.as_row() for difference in view.noted]
    if view.accession_differs:
        said["accession_differs"] = view.accession_differs
    if view.his not in {None, HisAnswer.ASKED}:
        said["identity"] = "not asked"
    return said


def refusal_of(view: OrderView, destination: Destination) -> HttpError:
    """Return why a finished order did not achieve what was asked for."""
    error = view.error_kind or OrderError.INTERNAL
    more: dict[str, Any] = {}
    if error in {OrderError.MOVE_INCOMPLETE, OrderError.MOVE_TIMED_OUT}:
        more = {"received": view.received, "expected": view.expected, "failed": view.failed}
        if view.unclaimed_from:
            more["unclaimed_from"] = [asdict(sender) for sender in view.unclaimed_from]
    if view.missing:
        more["missing"] = list(view.missing)
    if error in _OF_THE_WAY_OUT:
        more |= {"destination": address_of(destination), "sent": arrived(view), "refused": view.refused}
    if error == OrderError.MORE_THAN_ONE_PATIENT:
        more["differing"] = [difference.as_row() for difference in view.differing]
    return HttpError(kind_of(error), view.detail, **more)


def falls_short(view: OrderView) -> bool:
    """Tell whether something that was asked for is not in the file."""
    return bool(view.left_out or view.missing or _not_received(view))


def shortfall(view: OrderView, words: Translation) -> tuple[str, ...]:
    """Return a line for each kind of missing thing, with its count."""
    lines = []
    if count := _not_received(view):
        lines.append(words.count("short.not_received", count))
    if view.missing:
        lines.append(words.say("short.missing", accessions=", ".join(view.missing)))
    kinds: Counter[str] = Counter()
    for omission in view.left_out:
        kinds[omission.code if omission.code in _TOLD else LeftOutCode.OTHER] += omission.instances
    for kind, count in kinds.most_common():
        key = f"short.left_out_{'one' if count == 1 else 'many'}"
        lines.append(words.say(key, count=count, what=words.say(f"short.why_{kind}")))
    return tuple(lines)


def _not_received(view: OrderView) -> int:
    return max(0, (view.expected or 0) - view.received)
