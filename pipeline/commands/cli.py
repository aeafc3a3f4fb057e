"""The command line (docs/design.md): each command calls its function, prints for a person or as JSON, and exits.

Modules are imported inside the commands: `receive` must not carry the worker's memory, and `--help` must be quick.
"""

import gc
import sys
from typing import Annotated

import typer

from pipeline import __version__
from pipeline.commands import (
    decision_commands,
    disc,
    ledger_commands,
    order_commands,
    quarantine_commands,
    running_commands,
    site_commands,
)
from pipeline.commands.command_site import CommandContext, Site, accept_site
from pipeline.errors import StorestowError, Usage
from pipeline.events import LogFormat, log_to_stderr

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
for group in (running_commands, site_commands, order_commands, decision_commands, ledger_commands):
    app.add_typer(group.app)
app.add_typer(quarantine_commands.app, name="quarantine")
app.add_typer(disc.app, name="disc")
_OF_THE_PARSER = 2  # Exit code of the parser for wrong usage.


def _say_version(is_asked: bool) -> None:
    if is_asked:
        print(f"storestow {__version__}")  # noqa: T201
        raise typer.Exit


@app.callback()
def _main(
    site: Site = None,
    log: Annotated[
        LogFormat | None,
        typer.Option(
            help="How log lines are written; default: with priorities if standard error is the journal, else text."
        ),
    ] = None,
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """A hook-driven DICOM gateway: storescp in, coerced and losslessly encoded studies out."""
    CommandContext.site = site
    CommandContext.log = log
    if log is not None:
        log_to_stderr(kind=log)


accept_site(app)


def main() -> None:
    """Run the command line; every expected failure is one message and the exit code of its kind."""
    log_to_stderr()
    try:
        app()
    except StorestowError as error:
        for line in str(error).splitlines():
            sys.stderr.write(f"storestow: {line}\n")
        sys.exit(error.exit_code)
    except SystemExit as end:  # systemd restarts a service after the parser's exit code, but not after ours.
        sys.exit(Usage.exit_code if end.code == _OF_THE_PARSER else end.code)
    finally:
        gc.freeze()  # Otherwise the exit looks for cycles in all that was imported: a quarter of a second.
