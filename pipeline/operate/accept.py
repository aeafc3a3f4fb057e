"""`storestow accept`: a person confirms that an archive's copy, which nobody could compare, is ours."""

import time

from pipeline import engine
from pipeline.errors import Usage
from pipeline.events import Event, emit
from pipeline.ledger import Ledger, arrivals, receipts, reports
from pipeline.line.settle import renew_account
from pipeline.site.reason import reason_of
from pipeline.spool.spool import Spool


def accept(
    spool: Spool, ledger: Ledger, subject: str, destination: str | None, reason: str
) -> tuple[list[int], int]:
    """Let the originals of `subject` age out although nobody could compare them with the archive's copies.

    Returns the deliveries, and the number of instances. The reason is kept in the ledger and in the account, never
    in a log line. Raises Usage if the reason has not 3 to 200 characters, or nothing of `subject` waits for this.
    """
    said = reason_of(reason, "what you looked at, and who you are")
    with ledger.transaction() as connection:
        numbers, count = receipts.accept(connection, reports.named_by(subject), destination, said, time.time())
        ledger.engine.ring(connection, engine.SETTLE)
    if not numbers:
        raise Usage(f"nothing of {subject} is at a destination without having been compared")
    for number in numbers:
        with ledger.reading() as connection:
            names = arrivals.settled_of(connection, number)
        for name in names:
            renew_account(name, spool, ledger)
        emit(Event.ACCEPTED, delivery=number)
    return numbers, count
