"""The commands by which a person decides what becomes of deliveries."""

from typing import Annotated

import typer

from pipeline.commands.command_site import (
    Json,
    destination_names,
    ledger_of,
    print_json,
    record_act,
    settings_of_site,
)
from pipeline.errors import Usage

app = typer.Typer()

Subject = Annotated[str, typer.Argument(help="Accession number, Study Instance UID or arrival.")]
Destination = Annotated[str, typer.Argument(help="Its name.", autocompletion=destination_names)]
By = Annotated[str | None, typer.Option(help="Your name, for the others.")]


@app.command()
def retry(
    subject: Annotated[str | None, typer.Argument(help="Accession number, Study Instance UID or arrival.")] = None,
    to: Annotated[str | None, typer.Option(help="Only deliveries to this destination.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="Everything that is refused, deferred or held.")
    ] = False,
    release_guard: Annotated[bool, typer.Option(help="Send although the guard holds the study back.")] = False,
    as_json: Json = False,
) -> None:
    """Try refused, deferred or held deliveries again, for the instances that did not arrive."""
    from pipeline.operate.retry import retry as again  # noqa: PLC0415

    if subject is None and not everything:
        raise Usage("say what to retry: an accession number, a study UID, an arrival, or --all")
    settings = settings_of_site()
    if to is not None:
        settings.destination_named(to)
    ledger = ledger_of(settings)
    numbers = again(ledger, subject, to, release_guard=release_guard)
    record_act(ledger, "retry" if subject else "retry-destination", subject or to or "--all")
    if as_json:
        print_json({"deliveries": numbers})
    else:
        print(f"{len(numbers)} deliveries are due again")  # noqa: T201


@app.command()
def accept(
    subject: Subject,
    reason: Annotated[str, typer.Option(help="What you looked at, and who you are; 3 to 200 characters.")],
    destination: Annotated[str | None, typer.Option(help="Only what this destination holds.")] = None,
    as_json: Json = False,
) -> None:
    """Say that what a destination held before, and could not be compared, is the same: its original may go."""
    from pipeline.operate.accept import accept as run  # noqa: PLC0415

    settings = settings_of_site()
    if destination is not None:
        settings.destination_named(destination)
    ledger = ledger_of(settings)
    numbers, count = run(settings.spool, ledger, subject, destination, reason)
    record_act(ledger, "accept", subject, reason)
    if as_json:
        print_json({"deliveries": numbers, "instances": count})
    else:
        print("1 instance is accepted" if count == 1 else f"{count} instances are accepted")  # noqa: T201


@app.command()
def reroute(
    old: Annotated[str, typer.Argument(help="The destination that is gone, as `status` names it.")],
    new: Annotated[str, typer.Argument(help="A configured destination.")],
    as_json: Json = False,
) -> None:
    """Give what waits for one destination to another, from the originals."""
    from pipeline.operate.reroute import reroute as give  # noqa: PLC0415

    settings = settings_of_site()
    ledger = ledger_of(settings)
    numbers = give(settings, ledger, old, new)
    record_act(ledger, "reroute", old, new)
    if as_json:
        print_json({"deliveries": numbers})
    else:
        print(f"{len(numbers)} deliveries wait for {new} now")  # noqa: T201


@app.command()
def discard(
    destination: Annotated[str, typer.Option(help="The destination nothing is to be sent to any more.")],
    reason: Annotated[str, typer.Option(help="Why, in 3 to 200 characters; it is kept in the ledger.")],
    as_json: Json = False,
) -> None:
    """Give up what waits for a destination; `quarantine discard` is about files that were set aside."""
    from pipeline.operate.reroute import discard as give_up  # noqa: PLC0415

    settings = settings_of_site()
    ledger = ledger_of(settings)
    numbers = give_up(settings, ledger, destination, reason)
    record_act(ledger, "give-up", destination, reason)
    if as_json:
        print_json({"deliveries": numbers})
    else:
        print(f"{len(numbers)} deliveries to {destination} are given up")  # noqa: T201


@app.command()
def pause(
    destination: Destination,
    reason: Annotated[str, typer.Option(help="Why, for the others.")] = "",
    by: By = None,
) -> None:
    """Send nothing to a destination until `resume`."""
    from pipeline.operate import pause as pausing  # noqa: PLC0415

    settings = settings_of_site()
    ledger = ledger_of(settings)
    pausing.pause(settings, ledger, destination, reason, by)
    record_act(ledger, "pause", destination, reason, by)
    print(f"{destination} is paused")  # noqa: T201


@app.command()
def resume(destination: Destination, by: By = None) -> None:
    """Send to a paused destination again."""
    from pipeline.operate import pause as pausing  # noqa: PLC0415

    settings = settings_of_site()
    ledger = ledger_of(settings)
    pausing.resume(settings, ledger, destination, by)
    record_act(ledger, "resume", destination, by=by)
    print(f"{destination} is resumed")  # noqa: T201


@app.command()
def drain(
    node: Annotated[str, typer.Argument(help="Its name, as `status` has it; default: this machine.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Let it take work again.")] = False,
) -> None:
    """Let a node finish what it has in hand and take nothing new, until `drain --undo`."""
    from pipeline.operate.drain import drain as run  # noqa: PLC0415

    settings = settings_of_site()
    ledger = ledger_of(settings)
    name = run(settings, ledger, node, undo=undo)
    record_act(ledger, "undrain" if undo else "drain", name)
    print(f"{name} takes work again" if undo else f"{name} takes nothing new")  # noqa: T201


@app.command()
def forget(node: Annotated[str, typer.Argument(help="Its name, as `status` has it.")]) -> None:
    """Forget a node that is lost and does not come back."""
    from pipeline.operate.drain import forget as run  # noqa: PLC0415

    settings = settings_of_site()
    ledger = ledger_of(settings)
    run(settings, ledger, node)
    record_act(ledger, "forget", node)
    print(f"{node} is forgotten")  # noqa: T201
