"""The site a command works on, and what every command does with it."""

import functools
import inspect
import json
import os
import pwd
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pipeline.errors import StorestowError
from pipeline.events import LogFormat

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.site.settings import Settings

Site = Annotated[Path | None, typer.Option(help="Configuration; default ./site.toml, /etc/storestow/site.toml.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


class CommandContext:
    """Global command-line options, and what is closed when the command has ended."""

    site: Path | None = None
    log: LogFormat | None = None
    end = ExitStack()


def accept_site(app: typer.Typer) -> None:
    """Let every command of `app`, and of the groups in it, take `--site` behind its name too.

    What the command opened by `ledger_of` is closed when it has ended.
    """
    for command in app.registered_commands:
        if command.callback:
            command.callback = _with_site(command.callback)
    for group in app.registered_groups:
        if group.typer_instance:
            accept_site(group.typer_instance)


def _with_site(command: Callable[..., Any]) -> Callable[..., Any]:
    """Return the command with the option `--site`, which typer reads from its signature; it closes its ledger."""

    @functools.wraps(command)
    def run(*args: Any, site: Path | None = None, **words: Any) -> Any:
        CommandContext.site = site or CommandContext.site
        with CommandContext.end:
            return command(*args, **words)

    signature = inspect.signature(command)
    site = inspect.Parameter("site", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Site)
    run.__signature__ = signature.replace(parameters=[*signature.parameters.values(), site])  # type: ignore[attr-defined]
    run.__annotations__ = {**command.__annotations__, "site": Site}
    return run


def destination_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the destinations that a shell offers for `incomplete`; none if the configuration is wrong."""
    return _names(ctx, incomplete, lambda settings: [destination.name for destination in settings.destination])


def receiver_names(ctx: typer.Context, incomplete: str) -> list[str]:
    """Return the receivers that a shell offers for `incomplete`; none if the configuration is wrong."""
    return _names(ctx, incomplete, lambda settings: [receiver.name for receiver in settings.receiver])


def _names(ctx: typer.Context, incomplete: str, names_of: Callable[["Settings"], list[str]]) -> list[str]:
    CommandContext.site = ctx.params.get("site") or ctx.find_root().params.get("site")
    try:
        return [name for name in names_of(settings_of_site()) if name.startswith(incomplete)]
    except StorestowError:
        return []


def settings_of_site() -> "Settings":
    """Return the configuration of the chosen site; raises Configuration if it is wrong."""
    from pipeline.site.settings import load  # noqa: PLC0415

    return load(CommandContext.site)


def ledger_of(settings: "Settings") -> "Ledger":
    """Open the ledger until the command ends; raises Configuration if there is none yet."""
    from pipeline.site import site_ledger  # noqa: PLC0415

    return CommandContext.end.enter_context(closing(site_ledger.ledger_of(settings)))


def record_act(
    ledger: "Ledger", what: str, subject: str, reason: str | None = None, by: str | None = None
) -> None:
    """Record what a person did by a command, where the operator's page shows what people did.

    `what` is a word of `operator_act` in `languages/`; without `by` it is the user who ran the command.
    """
    from pipeline.ledger import act_records  # noqa: PLC0415

    with ledger.transaction() as connection:
        act_records.add(connection, act_records.Act(time.time(), by or _user(), what, subject, reason or None))


def _user() -> str:
    """Return the login name of the person; a container may have a user without one."""
    try:
        return os.environ.get("SUDO_USER") or pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return f"user {os.getuid()}"


def print_json(value: Any) -> None:
    """Print a value for programs."""
    print(json.dumps(value, indent=2))  # noqa: T201
