"""The commands about the ledger as a whole: bring it up to date, copy it, take it to a server."""

from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.command_site import Json, ledger_of, print_json, settings_of_site

app = typer.Typer()


@app.command()
def migrate(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be done, and change nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Bring the ledger of an earlier release up to date, after a copy; a worker does the same at its start."""
    from pipeline.commands.migrate import migrate as run  # noqa: PLC0415
    from pipeline.commands.migrate import sentences  # noqa: PLC0415

    answer = run(settings_of_site(), dry_run=dry_run)
    print_json(answer) if as_json else print("\n".join(sentences(answer)))  # noqa: T201


@app.command()
def backup(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="The new file; it must not exist.")],
) -> None:
    """Copy the ledger while everything runs; how to restore it is in docs/security.md."""
    from pipeline.commands.backup import backup as run  # noqa: PLC0415

    size = run(ledger_of(settings_of_site()), target)
    print(f"written: {target} ({size} bytes)")  # noqa: T201


@app.command()
def relocate() -> None:
    """Take the ledger from its file to the server that `ledger` in site.toml names; stop worker and shim first."""
    from pipeline.commands.relocate import relocate as run  # noqa: PLC0415

    print(run(settings_of_site()))  # noqa: T201
