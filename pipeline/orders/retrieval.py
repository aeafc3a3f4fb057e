"""Decide from the instances that have come, whatever the PACS reported, whether a retrieval has ended."""

import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection

from pipeline.config.order_tables import PacsTable
from pipeline.events import Event, emit
from pipeline.ledger import arrivals, nodes, retrievals
from pipeline.ledger.completeness import StudyCompleteness, of_wish
from pipeline.ledger.rows import RetrievalRow
from pipeline.line.admit import parse_arrival_name
from pipeline.line.senders import Sender, senders_of
from pipeline.model import OrderError, RetrievalState
from pipeline.orders import reception_progress
from pipeline.site.site import Site

MOST_ATTEMPTS = 2  # C-MOVEs without final response; a C-MOVE with a final response is not repeated.
MOST_NAMED = 5  # Senders, and reasons, named in a text.
SUCCESS, WARNING = 0x0000, 0xB000  # PS3.4 table C.4-2
ADMISSION_SECONDS = 5.0  # Seconds until an association that we have ended is admitted.
DESTINATION_UNKNOWN = 0xA801

_Named = TypeVar("_Named")
Verdict = tuple[RetrievalState, OrderError | None, str | None]


def judge(row: RetrievalRow, site: Site, now: float) -> None:
    """End a retrieval whose PACS has finished, once all instances have come, or none has come for long enough.

    That is the receiver's quiet time, or `move_timeout` if the PACS reports that it has sent more than came: some
    PACS answer a C-MOVE with Success first, and send later.
    """
    with site.ledger.reading() as connection:
        wishes = retrievals.open_links(connection, row.id)
        came = retrievals.came(connection, row.id)
        doubtful = len(retrievals.contradicted(connection, row.id))
        aside = retrievals.set_aside(connection, row.id)
        strangers = retrievals.from_strangers(connection, row.study_instance_uid, row.started_at or row.created_at)
    if any(not wish.asked for wish in wishes):
        return
    found = [of_wish(wish, wish.modalities, row, came) for wish in wishes]
    quiet, longest = _quiet_seconds(site), site.settings.shim.move_timeout.total_seconds()
    missing = max(((study.expected or 1) - len(study.instances) for study in found), default=0)
    # The missing instances have come from an address that [pacs] does not name.
    has_sent_elsewhere = sum(strangers.values()) >= missing
    patience = longest if any(study.is_owed for study in found) and not has_sent_elsewhere else quiet
    received = max((len(study.instances) for study in found), default=len(came))
    if wishes and all(study.is_complete for study in found):
        if not any(study.may_grow for study in found) or _is_quiet(row, site, now, quiet):
            _end(row, (RetrievalState.COMPLETE, None, row.detail), received, _most(row, found), site)
    elif not wishes or _is_final(row) or _is_quiet(row, site, now, patience):
        most = _most(row, found)
        how = verdict(row, received, most, site.settings.pacs)
        _end(row, _with_remarks(how, _remarks(doubtful, aside, strangers, site)), received, most, site)


def _with_remarks(how: Verdict, remarks: Sequence[str]) -> Verdict:
    """Add the remarks on instances that came and do not count; the error is then not that there is no data."""
    state, kind, detail = how
    kind = OrderError.MOVE_INCOMPLETE if remarks and kind == OrderError.NO_DATA else kind
    return state, kind, "; ".join(filter(None, [detail, *remarks])) or None


def _remarks(
    doubtful: int, aside: Mapping[str, int], strangers: Mapping[tuple[str, str | None], int], site: Site
) -> list[str]:
    remarks = [f"{doubtful} came twice, with another content each time"] if doubtful else []
    remarks += [f"{count} came and {_is(count)} quarantined: {reason}" for reason, count in _most_of(aside)]
    senders = [(Sender(*who), count) for who, count in _most_of(strangers)]
    return remarks + [
        f"{count} came from {sender}, whom [pacs] does not name, and count for nothing; "
        f"if that is the PACS, write in [pacs]: {senders_of(site.settings).line_with(sender)}"
        for sender, count in senders
    ]


def _is(count: int) -> str:
    return "is" if count == 1 else "are"


def _most_of(counts: Mapping[_Named, int]) -> list[tuple[_Named, int]]:
    """Return the largest counts, as many as a text names."""
    return sorted(counts.items(), key=lambda one: -one[1])[:MOST_NAMED]


def _most(row: RetrievalRow, found: Sequence[StudyCompleteness]) -> int | None:
    """Return how many instances the most demanding order expects."""
    return max((study.expected for study in found if study.expected is not None), default=row.announced)


def _quiet_seconds(site: Site) -> float:
    assert site.settings.pacs is not None
    return site.settings.receiver_named(site.settings.pacs.receiver).quiet_seconds


def _is_final(row: RetrievalRow) -> bool:
    """Tell whether the PACS was never asked to send, so that nothing can come."""
    return row.error_kind in {OrderError.PACS_UNREACHABLE, OrderError.INTERNAL}


def _is_quiet(row: RetrievalRow, site: Site, now: float, seconds: float) -> bool:
    """Tell whether no instance of the study has come for `seconds`, and none is coming, as far as known.

    A PACS that sends no more may keep its association open: after `move_timeout` we end it.
    """
    pacs = site.settings.pacs
    assert pacs is not None
    silent = now - max(row.finished_at or 0.0, row.last_progress_at)
    if 0 <= silent < seconds:
        return False
    where = site.spool.incoming_of(pacs.receiver), row.study_instance_uid, senders_of(site.settings)
    if reception_progress.holds(*where):
        if row.error_kind != OrderError.MOVE_TIMED_OUT:
            return False
        reception_progress.end_silent(*where, now - site.settings.shim.move_timeout.total_seconds())
        if 0 <= silent < seconds + ADMISSION_SECONDS:
            return False
    with site.ledger.reading() as connection:
        if _may_come_from_others(connection, row, pacs, site):
            return False
        return not retrievals.is_being_taken_in(connection, pacs.receiver) and not _unknown(connection, pacs, site)


def _may_come_from_others(connection: Connection, row: RetrievalRow, pacs: PacsTable, site: Site) -> bool:
    """Tell whether another node has some of the study at its door, or has not said so since the PACS ended."""
    if not site.spool.has_store or row.error_kind == OrderError.MOVE_TIMED_OUT:  # We cannot end its association.
        return False
    others = nodes.others(connection, site.claimant.worker)
    is_told = all(seen >= (row.finished_at or 0.0) for seen in others.seen.values())
    return not is_told or (pacs.receiver, row.study_instance_uid) in others.door


def _unknown(connection: Connection, pacs: PacsTable, site: Site) -> bool:
    """Tell whether an arrival at the receiver of orders has not been entered yet."""
    folders = site.spool.received_names() | site.spool.arrival_names()
    names = {name for name in folders if parse_arrival_name(name)[1] == pacs.receiver}
    return bool(names - arrivals.states_of(connection, names).keys())


def verdict(row: RetrievalRow, received: int, wanted: int | None, pacs: PacsTable | None) -> Verdict:
    """Return how an incomplete retrieval ended, and why; or QUEUED if it is tried again. A pure function."""
    name = f"{pacs.ae_title} at {pacs.host}:{pacs.port}" if pacs else "the PACS"
    came = f"{received} of {wanted if wanted is not None else 'an unknown number of'} instances have come"
    if pacs and pacs.retrieve == "get" and row.status is not None:
        came += _not_had_by_get(max(row.failed, (wanted or 0) - received))
    said = f" ({row.detail})" if row.detail else ""
    if row.error_kind:
        return RetrievalState.FAILED, row.error_kind, f"{name}: {row.detail or 'no answer'}; {came}"
    if row.status is None:
        if row.attempts < MOST_ATTEMPTS:
            return RetrievalState.QUEUED, None, None
        kind = OrderError.MOVE_INCOMPLETE if received else OrderError.PACS_UNREACHABLE
        state = RetrievalState.INCOMPLETE if received else RetrievalState.FAILED
        return state, kind, f"{name} broke off{said}; {came}"
    status = int(row.status, 16)
    if status in {SUCCESS, WARNING} or received:
        is_nothing = not received and not row.failed
        kind = OrderError.NO_DATA if is_nothing else OrderError.MOVE_INCOMPLETE
        return RetrievalState.INCOMPLETE, kind, f"{name} ended with {row.status}{said}; {came}"
    remedy = ""
    if pacs and (status == DESTINATION_UNKNOWN or not row.failed):
        is_known = "does not know" if status == DESTINATION_UNKNOWN else "may not know"
        remedy = f"; it {is_known} our receiver {pacs.receiver} as a move destination"
    if pacs and pacs.retrieve == "get":
        remedy = f"; {came}"
    return RetrievalState.FAILED, OrderError.PACS_UNREACHABLE, f"{name} refused with {row.status}{said}{remedy}"


def _not_had_by_get(count: int) -> str:
    if not count:
        return ""
    return (
        f"; {count} could not be had by C-GET (it takes uncompressed transfer syntaxes only: "
        "what the PACS holds compressed and does not decompress comes by C-MOVE alone)"
    )


def _end(row: RetrievalRow, how: Verdict, received: int, expected: int | None, site: Site) -> None:
    """Record how a retrieval ended; if an instance came meanwhile, change nothing, and it is judged again."""
    state, kind, detail = how
    now = time.time()
    values: dict[str, Any] = {"state": state, "error_kind": kind, "detail": detail}
    if state != RetrievalState.QUEUED:
        values["ended_at"] = now
    with site.ledger.transaction() as connection:
        present = retrievals.row(connection, row.id)
        if (present.state, present.last_progress_at) != (row.state, row.last_progress_at):
            return
        retrievals.change_row(connection, row.id, **values)
    emit(
        Event.RETRIEVED,
        study=row.study_instance_uid,
        retrieval=row.id,
        state=state,
        received=received,
        expected=expected,
        status=row.status,
        reason=detail if kind else None,
    )
