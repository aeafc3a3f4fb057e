"""The commands that set a site up, check it, and show its state."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from pipeline.commands.command_site import CommandContext, Json, ledger_of, print_json, settings_of_site
from pipeline.errors import Usage

app = typer.Typer()

Subject = Annotated[str, typer.Argument(help="Accession number, Study Instance UID or arrival.")]


@app.command()
def init(  # noqa: PLR0913, PLR0917  # each is an option of the command
    kind: Annotated[str, typer.Option("--for", help="archive, orders, relay; several with commas.")] = "",
    output: Annotated[Path, typer.Option(help="The file to write; it must not exist.")] = Path("site.toml"),
    spool: Annotated[str, typer.Option(help="Folder on a local disk.")] = "",
    ae_title: Annotated[str, typer.Option(help="By which modalities call this machine.")] = "STORESTOW",
    port: Annotated[int, typer.Option(help="For modalities.")] = 11112,
    archive_url: Annotated[str, typer.Option(help="Of the archive's studies, STOW-RS: http://.../studies")] = "",
    relay_to: Annotated[str, typer.Option(metavar="AE@HOST:PORT", help="The PACS to pass on to.")] = "",
    pacs: Annotated[str, typer.Option(metavar="AE@HOST:PORT", help="The PACS of orders.")] = "",
    calling_ae_title: Annotated[str, typer.Option(help="Ours at that PACS.")] = "CDRECORD",
    orders_port: Annotated[int, typer.Option(help="Where that PACS sends to.")] = 10104,
    discs: Annotated[str, typer.Option(help="Folder for disc images.")] = "",
    publisher: Annotated[str, typer.Option(metavar="AE@HOST:PORT", help="The CD publisher.")] = "",
    his: Annotated[str, typer.Option(help="Address of the HIS's patient API.")] = "",
    sender: Annotated[
        list[str] | None, typer.Option(help="AE=NAME: the institution of a modality; may be repeated.")
    ] = None,
) -> None:
    """Write a first site.toml: asks what no option says, tries every peer, overwrites nothing."""
    from pipeline.commands import init as first  # noqa: PLC0415
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.commands.site_draft import SiteDraft, peer_address  # noqa: PLC0415

    file = output.absolute()
    first.check_is_new(file)
    ask = first.asker(is_asked=sys.stdin.isatty())
    question = f"what is this site for, of {', '.join(first.KINDS)}"
    kinds = first.kinds_in(kind) if kind else ask(question, "archive", first.kinds_in)
    draft = SiteDraft(
        spool=spool or first.folder_for("spool", file),
        ae_title=ae_title,
        port=port,
        archive_url=archive_url,
        relay=peer_address(relay_to) if relay_to else None,
        pacs=peer_address(pacs) if pacs else None,
        calling_ae_title=calling_ae_title,
        orders_port=orders_port,
        discs=discs or ("" if publisher or "orders" not in kinds else first.folder_for("discs", file)),
        publisher=peer_address(publisher) if publisher else None,
        his=his,
    )
    done = first.write(first.asked(draft, kinds, ask), file, first.senders_in(sender or ()))
    for path in done.written:
        print(f"written: {path}")  # noqa: T201
    for path in done.kept:
        print(f"kept as it is: {path}")  # noqa: T201
    if done.unwritten:
        print(f"  not in it, and to be added by hand: {json.dumps(done.unwritten, ensure_ascii=False)}")  # noqa: T201
    found = first.tried(file)
    terminal.show_findings(found, with_hints=False)
    print("\nnow run:", *first.next_commands(file), sep="\n  ")  # noqa: T201


@app.command()
def check(
    fix_hints: Annotated[
        bool, typer.Option("--fix-hints", help="Say below each finding what could be written where.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Look at everything that can be wrong before a study arrives; the gravest comes first."""
    from pipeline.commands import check as checks  # noqa: PLC0415
    from pipeline.commands import terminal  # noqa: PLC0415

    found = checks.by_weight(checks.findings(settings_of_site()))
    if as_json:
        print_json(checks.as_json(found))
    else:
        terminal.show_findings(found, with_hints=fix_hints)
    raise typer.Exit(checks.exit_code(found))


@app.command()
def install(
    manager: Annotated[
        str, typer.Option("--for", help="systemd or launchd; default: what this machine has.")
    ] = "",
    dry_run: Annotated[bool, typer.Option(help="Print the files instead of writing them.")] = False,
    replace: Annotated[bool, typer.Option(help="Replace files that have other content.")] = False,
    cluster: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="For a cluster manager: where the disk of two machines is mounted."),
    ] = None,
) -> None:
    """Write the services of this site for systemd or launchd, as root, and say what to run next."""
    from pipeline.commands import cluster_services, services  # noqa: PLC0415
    from pipeline.site.settings import site_file  # noqa: PLC0415

    kind = services.manager_named(manager)
    settings = settings_of_site()
    plan = services.plan(settings, site_file(CommandContext.site), kind)
    if cluster:
        plan = cluster_services.for_cluster(plan, settings, cluster)
    if dry_run:
        for path, data in plan.files.items():
            print(f"--- {path}\n{data.decode()}")  # noqa: T201
    else:
        for path in services.write(plan.files, replace=replace):
            print(f"written: {path}")  # noqa: T201
    print("\nnow run, as root:", *plan.commands, sep="\n  ")  # noqa: T201


@app.command()
def status(as_json: Json = False) -> None:
    """Show how the site stands: what waits, where, since when and why."""
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.operate.status import status as look  # noqa: PLC0415

    settings = settings_of_site()
    answer = look(settings, ledger_of(settings))
    print_json(answer) if as_json else terminal.show_status(answer)


@app.command()
def health(as_json: Json = False) -> None:
    """Say whether the parts of this machine run, with exit code 0 or 69: for the monitor of a cluster manager.

    Peers are not asked: a dead archive is no reason to move to another machine.
    """
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.errors import PeerUnavailable  # noqa: PLC0415
    from pipeline.operate.own_parts import parts_of  # noqa: PLC0415

    settings = settings_of_site()
    parts = parts_of(settings, ledger_of(settings))
    if as_json:
        print_json({"parts": [part._asdict() for part in parts]})
    else:
        terminal.show_parts(parts)
    if not all(part.runs for part in parts):
        raise typer.Exit(PeerUnavailable.exit_code)


@app.command()
def fleet(as_json: Json = False) -> None:
    """Ask the other sites of the fleet once, and show how they stand; sites that need a person come first."""
    import time  # noqa: PLC0415

    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.fleet.fleet_watch import FleetWatch  # noqa: PLC0415

    settings = settings_of_site()
    if not settings.fleet:
        raise Usage("there is no [[fleet]] in the configuration: see docs/fleet.md")
    watch = FleetWatch(settings.fleet)
    watch.ask_once()
    views = watch.views(time.time())
    print_json({"sites": [view.as_json() for view in views]}) if as_json else terminal.show_fleet(views)


@app.command()
def trace(
    subject: Subject,
    from_archive: Annotated[
        bool, typer.Option("--archived", help="Ask the archive of what was forgotten after keep_accounts.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show what became of every instance of a study."""
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.operate.trace import trace as look  # noqa: PLC0415

    settings = settings_of_site()
    if from_archive:
        from pipeline.operate.trace import archived  # noqa: PLC0415

        answer = archived(subject, settings.spool)
    else:
        answer = look(subject, ledger_of(settings), [d.name for d in settings.destination])
    if not (answer["studies"] or answer["orders"]):
        where = "the archive" if from_archive else "the ledger; --archived asks what it has forgotten"
        raise Usage(f"nothing is known of {subject} in {where}")
    print_json(answer) if as_json else terminal.show_trace(answer)


@app.command()
def explain(  # noqa: PLR0913, PLR0917  # each is an option of the command
    file: Annotated[Path | None, typer.Argument(help="A DICOM file.")] = None,
    last: Annotated[
        int, typer.Option(min=0, max=100_000, help="Instead of a file: the studies of so many last arrivals.")
    ] = 0,
    receiver: Annotated[str | None, typer.Option(help="As if it came in here; default: the first one.")] = None,
    calling_ae_title: Annotated[str | None, typer.Option(help="As if this AE title had sent it.")] = None,
    peer: Annotated[str | None, typer.Option(help="As if it came from this IP address.")] = None,
    as_json: Json = False,
) -> None:
    """Show what would happen to a file, where it would go, and why; nothing is kept or sent.

    With --last and --site NEW.toml: where the last studies went, and what a new configuration would have changed.
    """
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.commands.explain import explain as look  # noqa: PLC0415
    from pipeline.commands.explain_routes import explain_last  # noqa: PLC0415

    if (file is None) == (last == 0):
        raise Usage("name a FILE, or --last with a number of arrivals")
    settings = settings_of_site()
    if file is None:
        told = explain_last(settings, last)
        print_json(told) if as_json else terminal.show_routes(told)
        return
    if not settings.receiver:
        raise Usage("no [[receiver]] is configured, so nothing would happen to it")
    table = settings.receiver_named(receiver) if receiver else settings.receiver[0]
    answer = look(file, settings, table, calling_ae_title, peer)
    print_json(answer) if as_json else terminal.show_explanation(answer)
