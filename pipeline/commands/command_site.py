"""The site a command was called for, and what every command does with it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import Configuration

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.site.settings import Settings

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class CommandContext:
    """What stands before the command."""

    site: Path | None = None


def settings_of_site() -> "Settings":
    """Return the configuration of the chosen site; raises Configuration where it is wrong."""
    from pipeline.site.settings import load  # noqa: PLC0415

    return load(CommandContext.site)


def ledger_of(settings: "Settings") -> "Ledger":
    """Open the ledger for a look or a command; raises Configuration where there is none yet."""
    from pipeline.ledger import FILE_NAME, Ledger  # noqa: PLC0415

    path = settings.site.spool / FILE_NAME
    if not path.exists():
        raise Configuration(f"{path} does not exist yet; start the worker first: storestow up, or storestow work")
    ledger = Ledger(path)
    ledger.require_tables()
    return ledger


def print_json(value: Any) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=2))  # noqa: T201
