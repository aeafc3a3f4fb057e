"""The end of an order: one place writes it down and says it."""

import logging
import time

from sqlalchemy import Connection

from pipeline.events import Event, alarm, emit
from pipeline.ledger import orders, tallies
from pipeline.ledger.tallies import TallyKind
from pipeline.model import SEND_VERB, OrderError, OrderStage, OrderState
from pipeline.orders.compare_sources import Findings, sentence
from pipeline.site.site import Site


def end(
    number: int, state: OrderState, site: Site, error: OrderError | None = None, detail: str | None = None
) -> None:
    """Write down how an order ended, and why; one that has ended already stays as it is."""
    with site.ledger.transaction() as change:
        has_ended = end_within(change, number, state, error, detail)
    site.pacs_patients.pop(number, None)
    if has_ended:
        say(number, state, error, detail)


def end_within(
    change: Connection, number: int, state: OrderState, error: OrderError | None, detail: str | None
) -> bool:
    """End an order in a transaction of the caller's, who says it afterwards; return whether it was open."""
    row = orders.row(change, number)
    if row is None or row.state != OrderState.OPEN:
        return False
    now = time.time()
    orders.change_row(
        change,
        number,
        state=state,
        stage=OrderStage.ENDED,
        error_kind=error,
        detail=detail,
        ended_at=now,
        last_progress_at=now,
    )
    tallies.add(change, now, TallyKind.ORDER, row.destination, str(error or state))
    if row.verb == SEND_VERB:
        orders.leave_files(change, number, now)
    return True


def end_of_several_patients(number: int, findings: Findings, what: str, site: Site) -> None:
    """End an order whose sources contradict each other; `what` says what was not done because of it."""
    detail = f"{sentence(findings)}; {what}"
    alarm(Event.IDENTITY_DIFFERS, order=number, **_about(findings))
    end(number, OrderState.FAILED, site, OrderError.MORE_THAN_ONE_PATIENT, detail)


def say_let_through(number: int, findings: Findings) -> None:
    """Log that a person has let a difference between sources through."""
    emit(Event.IDENTITY_DIFFERS, logging.WARNING, order=number, **_about(findings), identity="allowed")


def _about(findings: Findings) -> dict[str, str]:
    between = {"-".join(one.between) for one in findings.differing}
    attributes = {str(attribute) for one in findings.differing for attribute in one.attributes}
    return {"between": ",".join(sorted(between)), "attributes": ",".join(sorted(attributes))}


def say(number: int, state: OrderState, error: OrderError | None, detail: str | None) -> None:
    """Log the end of an order."""
    level = logging.INFO if state == OrderState.DONE else logging.WARNING
    emit(Event.ORDER_ENDED, level, order=number, state=state, error=error, reason=detail)
