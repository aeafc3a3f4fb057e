"""`storestow quarantine`: what is set aside, shown to a person and decided by one."""

from typing import Annotated

import typer

from pipeline.commands.chosen import Json, ledger_of, print_json, settings_of_site

app = typer.Typer(no_args_is_help=True, help="What is set aside: list, show, release, discard.")

SetAside = Annotated[str, typer.Argument(help="ARRIVAL or ARRIVAL/FILE, as `quarantine list` names them.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """List what is set aside, with the reason."""
    from pipeline.commands import pages  # noqa: PLC0415
    from pipeline.line.quarantine import listed  # noqa: PLC0415

    answer = listed(ledger_of(settings_of_site()))
    print_json(answer) if as_json else pages.show_quarantine(answer)


@app.command("show")
def show(name: SetAside, as_json: Json = False) -> None:
    """Show one of them: where it lies, its hash, why it is there."""
    from pipeline.commands import pages  # noqa: PLC0415
    from pipeline.line.quarantine import shown  # noqa: PLC0415
    from pipeline.spool.spool import Spool  # noqa: PLC0415

    settings = settings_of_site()
    answer = shown(name, Spool(settings.site.spool), ledger_of(settings))
    print_json(answer) if as_json else pages.show_set_aside(answer)


@app.command("release")
def release(name: SetAside) -> None:
    """Have it tried again from the start."""
    from pipeline.line.quarantine import release as put_back  # noqa: PLC0415
    from pipeline.spool.spool import Spool  # noqa: PLC0415

    settings = settings_of_site()
    put_back(name, Spool(settings.site.spool), ledger_of(settings))
    print(f"{name} will be tried again")  # noqa: T201


@app.command("discard")
def discard(name: SetAside, yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False) -> None:
    """Delete it for good; the ledger remembers that it was there."""
    from pipeline.line.quarantine import discard as delete  # noqa: PLC0415
    from pipeline.spool.spool import Spool  # noqa: PLC0415

    if not yes:
        typer.confirm(f"Delete {name} for good?", abort=True)
    settings = settings_of_site()
    deleted = delete(name, Spool(settings.site.spool), ledger_of(settings))
    print(f"{len(deleted)} files deleted")  # noqa: T201
