"""The command line (docs/design.md): each command calls its function, prints for a person or as JSON, and exits.

Modules are imported inside the commands: `receive` must not carry the worker's memory, and `--help` must be quick.
"""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline import __version__
from pipeline.commands.command_site import (
    CommandContext,
    Json,
    Site,
    accept_site,
    destination_names,
    ledger_of,
    print_json,
    receiver_names,
    settings_of_site,
)
from pipeline.commands.disc import app as disc_app
from pipeline.commands.quarantine_commands import app as quarantine_app
from pipeline.errors import StorestowError, Usage
from pipeline.events import LogFormat, log_to_stderr

if TYPE_CHECKING:
    from pipeline.ledger import Ledger
    from pipeline.orders import PlacedOrder
    from pipeline.site.settings import Settings

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False)
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(disc_app, name="disc")
_OF_THE_PARSER = 2  # Exit code of the parser for wrong usage.

Destination = Annotated[str, typer.Argument(help="Its name.", autocompletion=destination_names)]
Subject = Annotated[str, typer.Argument(help="Accession number, Study Instance UID or arrival.")]


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


@app.command()
def up() -> None:
    """Run the whole site in the foreground: every receiver, the worker and, where configured, HTTP."""
    from pipeline.commands.check import refuse_what_is_wrong  # noqa: PLC0415
    from pipeline.commands.up import up as run  # noqa: PLC0415
    from pipeline.site.settings import site_file  # noqa: PLC0415

    settings = settings_of_site()
    refuse_what_is_wrong(settings)
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

    settings = settings_of_site()
    work_until_idle(settings) if until_idle else run(settings)


@app.command()
def serve() -> None:
    """Serve HTTP in the foreground: the links of the HIS, and the pages of their orders."""
    from pipeline.web.serve import serve as run  # noqa: PLC0415

    run(settings_of_site())


@app.command()
def status(as_json: Json = False) -> None:
    """Show how the site stands: what waits, where, since when and why."""
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.operate.status import status as look  # noqa: PLC0415

    settings = settings_of_site()
    answer = look(settings, ledger_of(settings))
    print_json(answer) if as_json else terminal.show_status(answer)


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
        from pipeline.operate.archived import archived  # noqa: PLC0415
        from pipeline.spool.spool import Spool  # noqa: PLC0415

        answer = archived(subject, Spool(settings.site.spool))
    else:
        answer = look(subject, ledger_of(settings), [d.name for d in settings.destination])
    if not (answer["studies"] or answer["orders"]):
        where = "the archive" if from_archive else "the ledger; --archived asks what it has forgotten"
        raise Usage(f"nothing is known of {subject} in {where}")
    print_json(answer) if as_json else terminal.show_trace(answer)


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

    settings = settings_of_site()
    ledger = ledger_of(settings)
    if wait:
        _require_worker(settings, ledger)
    placed = order.place(
        ledger,
        settings,
        accessions,
        to,
        modalities=modality,
        missing=missing,
        incomplete=incomplete,
        again=again,
        allow_identity=allow_identity,
    )
    _follow(settings, ledger, placed, wait=wait, as_json=as_json)


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

    settings = settings_of_site()
    ledger = ledger_of(settings)
    if wait:
        _require_worker(settings, ledger)
    how = {"again": again, "several_patients": several_patients}
    placed = order(ledger, settings, paths, to, receiver=as_receiver, **how)
    _follow(settings, ledger, placed, wait=wait, as_json=as_json)


def _require_worker(settings: "Settings", ledger: "Ledger") -> None:
    """Raise Transient if no worker runs that could do the request."""
    from pipeline.site.worker_state import require_worker  # noqa: PLC0415
    from pipeline.spool.spool import Spool  # noqa: PLC0415

    require_worker(Spool(settings.site.spool), ledger)


def _follow(settings: "Settings", ledger: "Ledger", placed: "PlacedOrder", *, wait: bool, as_json: bool) -> None:
    """Show an order until it has ended, if wanted, print it, and exit with its result."""
    from pipeline.orders import progress, retrieve  # noqa: PLC0415

    with progress.OrderProgress() as shown:
        if wait:
            view = retrieve.follow(ledger, placed, shown.show, lambda: _require_worker(settings, ledger))
        else:
            view = retrieve.look(ledger, placed)
    print_json(view.as_json()) if as_json else progress.show_summary(view)
    raise typer.Exit(retrieve.exit_code(view))


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
    numbers = again(ledger_of(settings), subject, to, release_guard=release_guard)
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
    from pipeline.spool.spool import Spool  # noqa: PLC0415

    settings = settings_of_site()
    if destination is not None:
        settings.destination_named(destination)
    numbers, count = run(Spool(settings.site.spool), ledger_of(settings), subject, destination, reason)
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
    numbers = give(settings, ledger_of(settings), old, new)
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
    numbers = give_up(settings, ledger_of(settings), destination, reason)
    if as_json:
        print_json({"deliveries": numbers})
    else:
        print(f"{len(numbers)} deliveries to {destination} are given up")  # noqa: T201


By = Annotated[str | None, typer.Option(help="Your name, for the others.")]


@app.command()
def pause(
    destination: Destination,
    reason: Annotated[str, typer.Option(help="Why, for the others.")] = "",
    by: By = None,
) -> None:
    """Send nothing to a destination until `resume`."""
    from pipeline.operate import pause as pausing  # noqa: PLC0415

    settings = settings_of_site()
    pausing.pause(settings, ledger_of(settings), destination, reason, by)
    print(f"{destination} is paused")  # noqa: T201


@app.command()
def resume(destination: Destination, by: By = None) -> None:
    """Send to a paused destination again."""
    from pipeline.operate import pause as pausing  # noqa: PLC0415

    settings = settings_of_site()
    pausing.resume(settings, ledger_of(settings), destination, by)
    print(f"{destination} is resumed")  # noqa: T201


@app.command("orders")
def list_orders(
    only_open: Annotated[bool, typer.Option("--open", help="Only those that have not ended.")] = False,
    last: Annotated[int, typer.Option(min=1, max=10_000, help="How many of the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """List orders by accession number and `send`s, the newest first."""
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.operate.list_orders import list_orders as listed  # noqa: PLC0415

    answer = listed(ledger_of(settings_of_site()), at_most=last, only_open=only_open)
    print_json(answer) if as_json else terminal.show_orders(answer)


@app.command()
def cancel(
    order: Annotated[int, typer.Argument(help="The order's number, as `storestow orders` lists it.")],
    reason: Annotated[str, typer.Option(help="Why, in 3 to 200 characters; it is kept in the ledger.")],
) -> None:
    """End an order that nobody needs any more; what its destination has not got is not sent."""
    from pipeline.operate.cancel import cancel as end  # noqa: PLC0415

    end(ledger_of(settings_of_site()), order, reason)
    print(f"order {order} is cancelled")  # noqa: T201


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
) -> None:
    """Write the services of this site for systemd or launchd, as root, and say what to run next."""
    from pipeline.commands import services  # noqa: PLC0415
    from pipeline.site.settings import site_file  # noqa: PLC0415

    kind = services.manager_named(manager)
    plan = services.plan(settings_of_site(), site_file(CommandContext.site), kind)
    if dry_run:
        for path, data in plan.files.items():
            print(f"--- {path}\n{data.decode()}")  # noqa: T201
    else:
        for path in services.write(plan.files, replace=replace):
            print(f"written: {path}")  # noqa: T201
    print("\nnow run, as root:", *plan.commands, sep="\n  ")  # noqa: T201


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
    ask = first.asker(is_asked=sys.stdin.isatty())
    kinds = first.kinds_in(kind or ask(f"what is this site for, of {', '.join(first.KINDS)}", "archive"))
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
    found = first.tried(file)
    terminal.show_findings(found, with_hints=False)
    print("\nnow run:", *first.next_commands(file), sep="\n  ")  # noqa: T201


@app.command()
def explain(
    file: Path,
    receiver: Annotated[str | None, typer.Option(help="As if it came in here; default: the first one.")] = None,
    calling_ae_title: Annotated[str | None, typer.Option(help="As if this AE title had sent it.")] = None,
    peer: Annotated[str | None, typer.Option(help="As if it came from this IP address.")] = None,
    as_json: Json = False,
) -> None:
    """Show what would happen to a file, and why; nothing is kept or sent."""
    from pipeline.commands import terminal  # noqa: PLC0415
    from pipeline.commands.explain import explain as look  # noqa: PLC0415

    settings = settings_of_site()
    if not settings.receiver:
        raise Usage("no [[receiver]] is configured, so nothing would happen to it")
    table = settings.receiver_named(receiver) if receiver else settings.receiver[0]
    answer = look(file, settings, table, calling_ae_title, peer)
    print_json(answer) if as_json else terminal.show_explanation(answer)


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
