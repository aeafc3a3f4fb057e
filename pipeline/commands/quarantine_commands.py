"""`storestow quarantine`: show a person what is set aside, and let the person decide."""

from typing import Annotated

import typer

from pipeline.commands.command_site import Json, ledger_of, print_json, record_act, settings_of_site
from pipeline.errors import Usage

app = typer.Typer(no_args_is_help=True, help="What is set aside: list, show, release, discard.")

SetAsideOrStudy = Annotated[
    str | None, typer.Argument(help="ARRIVAL or ARRIVAL/FILE, as `quarantine list` names them.")
]
Study = Annotated[
    str | None, typer.Option(help="The Study Instance UID under which another patient's instances came.")
]
SetAside = Annotated[str, typer.Argument(help="ARRIVAL or ARRIVAL/FILE, as `quarantine list` names them.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List what is set aside, with the reason."""
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.line.quarantine import listed  # noqa: PLC0415

    answer = listed(ledger_of(settings_of_site()))
    print_json(answer) if as_json else terminal.show_quarantine(answer)


@app.command("show")
def show(name: SetAside, as_json: Json = False) -> None:
    """Show one thing that is set aside: where it lies, its hash, why it is there."""
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.line.quarantine import shown  # noqa: PLC0415

    settings = settings_of_site()
    answer = shown(name, settings.spool, ledger_of(settings))
    print_json(answer) if as_json else terminal.show_set_aside(answer)


@app.command("release")
def release(
    name: SetAsideOrStudy = None,
    study: Study = None,
    reason: Annotated[str | None, typer.Option(help="With --study: why; it is kept in the ledger.")] = None,
) -> None:
    """Try again what is set aside, from the start; --study sends another patient's instances as of that study."""
    from pipeline.line.other_patient import release_study  # noqa: PLC0415
    from pipeline.line.quarantine import release as put_back  # noqa: PLC0415

    _require_one(name, study)
    if (study is None) != (reason is None):
        raise Usage("--study and --reason belong together")
    settings = settings_of_site()
    spool, ledger = settings.spool, ledger_of(settings)
    if name:
        put_back(name, spool, ledger)
        record_act(ledger, "release", name)
        print(f"{name} will be tried again")  # noqa: T201
    if study and reason is not None:
        number = release_study(study, reason, settings.site.placeholder_ids, spool, ledger)
        record_act(ledger, "release-study", study, reason)
        print(f"{number} instances will be sent as of the study {study}")  # noqa: T201


@app.command("discard")
def discard(
    name: SetAsideOrStudy = None,
    study: Study = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Delete for good what is set aside; the ledger remembers that it was there."""
    from pipeline.line.other_patient import discard_study  # noqa: PLC0415
    from pipeline.line.quarantine import discard as delete  # noqa: PLC0415

    _require_one(name, study)
    if not yes:
        what = name or f"what came of the study {study} as another patient's"
        typer.confirm(f"Delete {what} for good?", abort=True)
    settings = settings_of_site()
    spool, ledger = settings.spool, ledger_of(settings)
    deleted = delete(name, spool, ledger) if name else discard_study(study or "", spool, ledger)
    record_act(ledger, "discard" if name else "discard-study", name or study or "")
    print(f"{len(deleted)} files deleted")  # noqa: T201


def _require_one(name: str | None, study: str | None) -> None:
    if bool(name) == bool(study):
        raise Usage("name what is meant: ARRIVAL or ARRIVAL/FILE, or --study UID")
