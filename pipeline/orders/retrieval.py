"""Whether a retrieval has come to its end: decided by what has been taken in, whatever the PACS said of it."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Connection

from pipeline.config.order_tables import PacsTable
from pipeline.events import Event, emit
from pipeline.ledger import arrivals, retrievals
from pipeline.ledger.completeness import expected, is_complete
from pipeline.ledger.retrievals import Key
from pipeline.line.admission import parse_arrival_name
from pipeline.model import OrderError, RetrievalState
from pipeline.orders import incoming
from pipeline.site.site import Site
from pipeline.waypoints import reached

MOST_ATTEMPTS = 2  # of a C-MOVE that broke off; one with a final response is the PACS's last word
SUCCESS, WARNING = 0x0000, 0xB000  # PS3.4 table C.4-2
DESTINATION_UNKNOWN = 0xA801

Verdict = tuple[RetrievalState, OrderError | None, str | None]


def judge(row: Any, site: Site, now: float) -> None:
    """End a retrieval whose PACS has finished, once all has come, or nothing has come for the quiet time."""
    with site.ledger.reading() as look:
        wishes = retrievals.open_links(look, row.id)
        held = set(retrievals.held(look, row.id))
    if any(not wish.asked for wish in wishes):
        return
    if wishes and all(satisfies(row, held, wish) for wish in wishes):
        _end(row, (RetrievalState.COMPLETE, None, row.detail), held, wishes, site)
    elif not wishes or _is_final(row) or _is_quiet(row, site, now):
        _end(row, verdict(row, len(held), must_come(row, wishes), site.settings.pacs), held, wishes, site)


def satisfies(row: Any, held: set[Key], wish: Any) -> bool:
    """Tell whether what a retrieval holds is all of a study that one order wishes for."""
    must = wished(row, wish)
    if must is None and row.status != f"0x{SUCCESS:04X}":
        return False  # nobody says how many there are, and the PACS has not said that this was all
    listed = None if wish.listed is None else {(series, one) for series, one in wish.listed}
    return is_complete(of_wish(held, wish), must, listed)


def wished(row: Any, wish: Any) -> int | None:
    """Return how many instances an order expects of a retrieval, which may bring more modalities than it asked."""
    announced = row.announced if row.modalities == "\\".join(wish.modalities) else None
    return expected(wish.counted, None if wish.listed is None else len(wish.listed), announced)


def of_wish(held: Iterable[Key], wish: Any) -> set[Key]:
    """Return those of the instances held that an order asked for."""
    series = {uid for uid, _, _ in wish.series}
    return {key for key in held if not wish.modalities or key[0] in series}


def must_come(row: Any, wishes: Sequence[Any]) -> int | None:
    """Return how many instances the most demanding of these orders expects."""
    figures = [figure for wish in wishes if (figure := wished(row, wish)) is not None]
    return max(figures, default=row.announced)


def _is_final(row: Any) -> bool:
    """Tell whether nothing was ever asked to be sent, so nothing can come."""
    return row.error_kind in {OrderError.PACS_UNREACHABLE, OrderError.INTERNAL}


def _is_quiet(row: Any, site: Site, now: float) -> bool:
    """Tell whether nothing of the study is coming any more, as far as anybody can know."""
    pacs = site.settings.pacs
    assert pacs is not None
    quiet = site.settings.receiver_named(pacs.receiver).quiet_seconds
    if 0 <= now - max(row.finished_at or 0.0, row.last_progress_at) < quiet:
        return False
    if incoming.holds(site.spool.incoming_of(pacs.receiver), row.study_instance_uid):
        return False
    with site.ledger.reading() as look:
        return not retrievals.is_being_taken_in(look, pacs.receiver) and not _unknown(look, pacs, site)


def _unknown(look: Connection, pacs: PacsTable, site: Site) -> bool:
    """Tell whether an arrival at the receiver of orders has not even been entered."""
    known = arrivals.states(look)
    names = (entry.name for entry in site.spool.arrivals.iterdir())
    return any(name not in known and parse_arrival_name(name)[1] == pacs.receiver for name in names)


def verdict(row: Any, received: int, wanted: int | None, pacs: PacsTable | None) -> Verdict:
    """Return how a retrieval ended that did not bring everything, and why; pure."""
    name = f"{pacs.ae_title} at {pacs.host}:{pacs.port}" if pacs else "the PACS"
    came = f"{received} of {wanted if wanted is not None else 'an unknown number of'} instances have come"
    if pacs and pacs.retrieve == "get" and row.status is not None:
        came += _not_had_by_get(max(row.failed or 0, (wanted or 0) - received))
    said = f" ({row.detail})" if row.detail else ""
    if row.error_kind:
        return RetrievalState.FAILED, OrderError(row.error_kind), f"{name}: {row.detail or 'no answer'}; {came}"
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


def _end(row: Any, how: Verdict, held: set[Key], wishes: Sequence[Any], site: Site) -> None:
    """Write down how a retrieval ended, unless something came while it was judged: it will be again."""
    state, kind, detail = how
    now = time.time()
    values: dict[str, Any] = {"state": state, "error_kind": kind, "detail": detail}
    if state != RetrievalState.QUEUED:
        values["ended_at"] = now
    with site.ledger.transaction() as change:
        present = retrievals.row(change, row.id)
        if (present.state, present.last_progress_at) != (row.state, row.last_progress_at):
            return
        retrievals.change_row(change, row.id, **values)
    reached("retrieval-ended")
    emit(
        Event.RETRIEVED,
        study=row.study_instance_uid,
        retrieval=row.id,
        state=state,
        received=len(held),
        expected=must_come(row, wishes),
        status=row.status,
        reason=detail if kind else None,
    )
