"""The commands that place orders, list them, and end one."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from pipeline.commands.command_site import (
    Json,
    destination_names,
    ledger_of,
    print_json,
    record_act,
    settings_of_site,
)

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.orders import PlacedOrder
    from pipeline.site.settings import Settings

app = typer.Typer()


@app.command()
def retrieve(  # noqa: PLR0913, PLR0917  # each is an option of the command
    accessions: Annotated[str, typer.Argument(help="One accession number, or several with commas.")],
    to: Annotated[str, typer.Option(help="The destination.", autocompletion=destination_names)],
    modality: Annotated[str, typer.Option(help="Only series of these modalities: MR, or MR,CT.")] = "",
    missing: Annotated[bool, typer.Option(help="Go on although the PACS does not know one of several.")] = False,
    incomplete: Annotated[bool, typer.Option(help="Deliver although not everything came.")] = False,
    again: Annotated[bool, typer.Option(help="Although the same was done a moment ago.")] = False,
    allow_identity: Annotated[
        str | None,
        typer.Option(
            metavar="REASON",
            help="Go on although the PACS names another patient than its images, or the HIS does. Say why.",
        ),
    ] = None,
    wait: Annotated[bool, typer.Option(help="Wait for the end.")] = True,
    as_json: Json = False,
) -> None:
    """Have the PACS send studies by accession number, and deliver them."""
    from pipeline.orders import retrieve as order  # noqa: PLC0415

    place = partial(
        order.place,
        accessions=accessions,
        destination=to,
        modalities=modality,
        missing=missing,
        incomplete=incomplete,
        again=again,
        allow_identity=allow_identity,
    )
    _place_and_follow(place, wait=wait, as_json=as_json)


@app.command()
def send(  # noqa: PLR0913, PLR0917  # each is an option of the command
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders of files.")],
    to: Annotated[str, typer.Option(help="The destination.", autocompletion=destination_names)],
    as_receiver: Annotated[
        str | None,
        typer.Option("--as", help="Treat them as this receiver's; what lies in the spool knows its own."),
    ] = None,
    again: Annotated[
        bool, typer.Option(help="Although the destination has these UIDs, or other bytes of them.")
    ] = False,
    several_patients: Annotated[
        bool, typer.Option("--several-patients", help="Although they are of more than one patient.")
    ] = False,
    wait: Annotated[bool, typer.Option(help="Wait for the end.")] = True,
    as_json: Json = False,
) -> None:
    """Send files from this machine's disk to a destination."""
    from pipeline.sending.send import send as order  # noqa: PLC0415

    place = partial(
        order,
        paths=paths,
        destination=to,
        receiver=as_receiver,
        again=again,
        several_patients=several_patients,
    )
    _place_and_follow(place, wait=wait, as_json=as_json)


@app.command("orders")
def list_orders(
    only_open: Annotated[bool, typer.Option("--open", help="Only those that have not ended.")] = False,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """List orders by accession number and `send`s, the newest first."""
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.orders import list_orders as listed  # noqa: PLC0415

    answer = listed(ledger_of(settings_of_site()), at_most=last, only_open=only_open)
    print_json(answer) if as_json else terminal.show_orders(answer)


@app.command()
def cancel(
    order: Annotated[int, typer.Argument(help="The order's number, as `storestow orders` lists it.")],
    reason: Annotated[str, typer.Option(help="Why, in 3 to 200 characters; it is kept in the ledger.")],
) -> None:
    """End an order that nobody needs any more; what its destination has not got is not sent."""
    from pipeline.orders.finish import cancel as end  # noqa: PLC0415

    ledger = ledger_of(settings_of_site())
    end(ledger, order, reason)
    record_act(ledger, "cancel", str(order), reason)
    print(f"order {order} is cancelled")  # noqa: T201


def _require_worker(settings: "Settings", ledger: "Ledger") -> None:
    """Raise Transient if no worker runs that could do the request."""
    from pipeline.site.worker_state import require_worker  # noqa: PLC0415

    require_worker(settings, ledger)


def _place_and_follow(
    place: Callable[["Ledger", "Settings"], "PlacedOrder"], *, wait: bool, as_json: bool
) -> NoReturn:
    """Place an order, show it until it has ended, if wanted, print it, and exit with its result."""
    from pipeline.orders import retrieve  # noqa: PLC0415

    settings = settings_of_site()
    ledger = ledger_of(settings)
    if wait:
        _require_worker(settings, ledger)
    placed = place(ledger, settings)
    with retrieve.OrderProgress() as shown:
        if wait:
            view = retrieve.follow(ledger, placed, shown.show, lambda: _require_worker(settings, ledger))
        else:
            view = retrieve.look(ledger, placed)
    print_json(view.as_json()) if as_json else retrieve.show_summary(view)
    raise typer.Exit(retrieve.exit_code(view))
