"""`storestow retrieve`: place an order, and follow it until it has ended."""

import time
from collections.abc import Callable

from pipeline import orders
from pipeline.dicom.accession import parse_list
from pipeline.errors import Transient, Usage
from pipeline.ledger import Ledger
from pipeline.ledger.file_identity import file_at
from pipeline.model import OrderError, OrderState
from pipeline.orders import OrderView, PlacedOrder
from pipeline.site.settings import Settings

VERB = "retrieve"
SHORTEST_WAIT, LONGEST_WAIT = 0.1, 1.0  # Seconds between two looks.

DONE, REFUSED, UNAVAILABLE, BUG, TRY_AGAIN, CONFIGURATION = 0, 65, 69, 70, 75, 78  # sysexits.h
EXIT_CODES = {
    OrderError.PACS_UNREACHABLE: UNAVAILABLE,
    OrderError.PATIENTS_UNAVAILABLE: UNAVAILABLE,
    OrderError.PUBLISHER_UNREACHABLE: UNAVAILABLE,
    OrderError.RECEIVER_NOT_READY: TRY_AGAIN,
    OrderError.MOVE_TIMED_OUT: TRY_AGAIN,
    OrderError.NOT_CONFIGURED: CONFIGURATION,
    OrderError.INTERNAL: BUG,
}


def place(  # noqa: PLR0913  # what may be asked for, each by its name
    ledger: Ledger,
    settings: Settings,
    accessions: str,
    destination: str,
    *,
    modalities: str = "",
    missing: bool = False,
    incomplete: bool = False,
    again: bool = False,
    allow_identity: str | None = None,
) -> PlacedOrder:
    """Place the order of a command line; raises Usage and Configuration as `orders.place` does."""
    return orders.place(
        ledger,
        settings,
        verb=VERB,
        accessions=parse_list(accessions, at_most=settings.shim.max_accessions),
        destination=destination,
        modalities=parse_modalities(modalities),
        missing_allowed=missing,
        incomplete_allowed=incomplete,
        again=again,
        allow_identity=allow_identity,
    )


def parse_modalities(text: str) -> tuple[str, ...]:
    """Return the modalities of a list with commas; raises Usage for one that is no CS (PS3.5 6.2)."""
    words = tuple(word.strip(" ").upper() for word in text.split(",")) if text.strip(" ") else ()
    for word in words:
        plain = word.replace("_", "").replace(" ", "")
        if not (plain.isascii() and plain.isalnum() and len(word) <= 16):
            raise Usage(f"{word!r} is no modality; write MR, or MR,CT")
    return words


def follow(
    ledger: Ledger,
    placed: PlacedOrder,
    show: Callable[[OrderView], None],
    require_worker: Callable[[], None] = lambda: None,
) -> OrderView:
    """Show the order whenever it has changed, and return it once it has ended.

    Raises Transient if the worker has set the ledger aside meanwhile, because no order ends in that file, and what
    `require_worker` raises while no worker runs. The order itself stays, and goes on with the worker.
    """
    pause, last, file = SHORTEST_WAIT, None, file_at(ledger.path)
    while (view := look(ledger, placed)).ended_at is None:
        pause = SHORTEST_WAIT if view != last else min(LONGEST_WAIT, 1.5 * pause)
        show(view)
        require_worker()
        last = view
        time.sleep(pause)
        if file_at(ledger.path) != file:
            raise Transient("the ledger was damaged and is lost, and this order with it; ask again")
    show(view)
    return view


def look(ledger: Ledger, placed: PlacedOrder) -> OrderView:
    """Return the state of the order; raises Usage if it is gone."""
    with ledger.reading() as connection:
        view = orders.view(connection, placed.order_id, is_new=placed.is_new)
    if view is None:
        raise Usage(f"there is no order {placed.order_id}")
    return view


def exit_code(view: OrderView) -> int:
    """Return the exit code of the command: 0 only if everything requested has arrived."""
    if view.state in {OrderState.DONE, OrderState.OPEN}:
        return DONE
    return EXIT_CODES.get(view.error_kind, REFUSED) if view.error_kind else REFUSED
