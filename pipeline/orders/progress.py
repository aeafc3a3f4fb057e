"""What `retrieve` and `send` show at a terminal: a progress bar, and a sentence at the end."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from pipeline.events import escaped
from pipeline.model import SEND_VERB, OrderStage, OrderState
from pipeline.orders import OrderView

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


class OrderProgress:
    """Show an order during the block, on standard error: standard output stays clean for programs."""

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
