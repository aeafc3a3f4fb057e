"""Place an order, follow it until it has ended, and show its progress at a terminal (`storestow retrieve`)."""

import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline import orders
from pipeline.dicom.accession import parse_list
from pipeline.errors import Transient, Usage
from pipeline.events import escaped
from pipeline.ledger import Ledger
from pipeline.model import SEND_VERB, OrderError, OrderStage, OrderState
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
WORDS = {
    OrderStage.PLACED: "placed",
    OrderStage.FINDING: "asking the PACS",
    OrderStage.QUEUED: "waiting for its turn",
    OrderStage.MOVING: "the PACS sends",
    OrderStage.RECEIVING: "taking in what came",
    OrderStage.PREPARING: "preparing",
    OrderStage.DELIVERING: "delivering",
    OrderStage.ENDED: "ended",
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
    """Show the order repeatedly until it has ended, and return it.

    Raises Transient if the ledger was lost meanwhile, and the order with it. Raises what `require_worker` raises
    if no worker runs; the order then stays open, and goes on when a worker runs again.
    """
    pause, last, identity = SHORTEST_WAIT, None, ledger.identity()
    while (view := look(ledger, placed)).ended_at is None:
        pause = SHORTEST_WAIT if view != last else min(LONGEST_WAIT, 1.5 * pause)
        show(view)
        require_worker()
        last = view
        time.sleep(pause)
        if ledger.identity() != identity:
            raise Transient("the ledger was damaged and is lost, and this order with it; ask again")
    show(view)
    return view


def look(ledger: Ledger, placed: PlacedOrder) -> OrderView:
    """Return the state of the order; raises Usage if there is no such order."""
    with ledger.reading() as connection:
        view = orders.view(connection, placed.order_id, is_new=placed.is_new)
    if view is None:
        raise Usage(f"there is no order {placed.order_id}")
    return view


def exit_code(view: OrderView) -> int:
    """Return the exit code of the command: 0 if everything requested has arrived, or the order is still open."""
    if view.state in {OrderState.DONE, OrderState.OPEN}:
        return DONE
    return EXIT_CODES.get(view.error_kind, REFUSED) if view.error_kind else REFUSED


class OrderProgress:
    """Show the progress of an order during the block, on standard error: standard output is for programs."""

    def __init__(self) -> None:
        self._console = Console(stderr=True, highlight=False)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._bar.add_task("placed", total=None)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, view: OrderView) -> None:
        """Show the current state of the order."""
        is_sending = view.stage == OrderStage.DELIVERING
        done = view.sent if is_sending else view.received
        self._bar.update(self._task, description=_words(view), completed=done, total=view.expected)


def _words(view: OrderView) -> str:
    if view.stage == OrderStage.QUEUED and view.place_in_queue:
        return f"{WORDS[view.stage]}: {view.place_in_queue} before it"
    return WORDS[view.stage]


def summary(view: OrderView) -> str:
    """Return one sentence about how an order ended, or that it is open."""
    about = f"order {view.id} to {view.destination}"
    received = "" if view.verb == SEND_VERB else f"{view.received} of {_known(view.expected)} instances received, "
    counts = f"{received}{view.sent} sent"
    if view.state == OrderState.OPEN:
        return f"{about} is placed: {WORDS[view.stage]}"
    if view.state == OrderState.DONE:
        again = " (it had been done before; --again does it again)" if view.already_sent else ""
        made = f", {view.result.path}" if view.result else ""
        return f"{about} is done{again}: {counts}{made}"
    detail = f" ({escaped(view.detail).strip(chr(34))})" if view.detail else ""
    return f"{about} {_ending(view)}: {view.error}{detail}; {counts}"


def _ending(view: OrderView) -> str:
    return "is partial" if view.state == OrderState.PARTIAL else "failed"


def _known(number: int | None) -> str:
    return "an unknown number of" if number is None else str(number)


def show_summary(view: OrderView) -> None:
    """Print how an order ended, for a person."""
    colour = {OrderState.DONE: "green", OrderState.OPEN: "yellow"}.get(view.state, "red")
    Console(highlight=False).print(f"[{colour}]{escape(summary(view))}[/]", soft_wrap=True)
