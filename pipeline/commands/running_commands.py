"""The commands that run a part of the site, or all of it, in the foreground."""

from typing import Annotated

import typer

from pipeline.commands.command_site import CommandContext, receiver_names, settings_of_site

app = typer.Typer()


@app.command()
def up() -> None:
    """Run the whole site in the foreground: every receiver, the worker and, where configured, HTTP."""
    from pipeline.commands.up import check_apart  # noqa: PLC0415
    from pipeline.commands.up import up as run  # noqa: PLC0415
    from pipeline.site.settings import site_file  # noqa: PLC0415

    settings = settings_of_site()
    check_apart(settings)
    chosen = ("--log", str(CommandContext.log)) if CommandContext.log else ()
    raise typer.Exit(run(settings, site_file(CommandContext.site), chosen))


@app.command()
def receive(
    name: Annotated[str, typer.Argument(help="The receiver's name.", autocompletion=receiver_names)],
    shown: Annotated[
        bool, typer.Option("--print", help="Print the command line of its storescp, for somebody else to run.")
    ] = False,
) -> None:
    """Run one receiver in the foreground."""
    from pipeline.receiving import external  # noqa: PLC0415
    from pipeline.receiving import receive as run  # noqa: PLC0415
    from pipeline.site.settings import site_file  # noqa: PLC0415

    settings = settings_of_site()
    if not shown:
        raise typer.Exit(run(settings, name))
    receiver = settings.receiver_named(name)
    argv = external.command_line(settings, receiver, site_file(CommandContext.site))
    external.prepare(settings, receiver)
    print(external.as_typed(argv))  # noqa: T201


@app.command()
def work(
    until_idle: Annotated[
        bool,
        typer.Option("--until-idle", help="End when nothing is due within a minute, or another works."),
    ] = False,
) -> None:
    """Run the worker in the foreground: coerce, encode, deliver, verify, settle."""
    from pipeline.commands.work import work as run  # noqa: PLC0415
    from pipeline.commands.work import work_until_idle  # noqa: PLC0415
    from pipeline.site.worker_refusal import noted_for_receivers  # noqa: PLC0415

    with noted_for_receivers(CommandContext.site):
        settings = settings_of_site()
        work_until_idle(settings) if until_idle else run(settings)


@app.command()
def serve() -> None:
    """Serve HTTP in the foreground: the links of the HIS, and the pages of their orders."""
    from pipeline.web.serve import serve as run  # noqa: PLC0415

    run(settings_of_site())
