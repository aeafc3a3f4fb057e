"""Show the whole site on this machine: `make run`.

Below ./.site: an Orthanc as the archive, another as the PACS, a storescp as the CD publisher, a configuration, the
spool. A modality sends a study, its account is printed, late images follow; the links of the HIS make a disc and
print; and the site stays up for more until Ctrl-C. Nothing it starts survives it.
"""

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import account as accounts
import archive as archives
import configuration
import links
import pacs as pacses
import publisher as publishers
import study as studies
from account import Account
from archive import Archive
from configuration import Peers
from programs import ENVIRONMENT, Program, Unhealthy, find, free_port, is_free
from publisher import Publisher
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from study import Study

REPOSITORY = Path(__file__).resolve().parent.parent
USUAL_PORT, USUAL_ORDERS_PORT, USUAL_HTTP_PORT = 11112, 10104, 8090
START_SECONDS = 60
STANDSTILL_SECONDS = 120  # nothing happened for so long: say so instead of waiting for ever
INTERRUPTED = 130

console = Console(highlight=False)


def main() -> int:
    """Run the demonstration; return 0, or what went wrong as an exit code (sysexits.h)."""
    options = _options()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, _interrupt)
    threading.Thread(target=_end_with_the_parent, args=(os.getppid(),), daemon=True).start()
    try:
        with contextlib.ExitStack() as started:
            _show(options, started)
    except Unhealthy as error:
        console.print(f"run: not healthy: {error}", soft_wrap=True, markup=False, style="red")
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="the whole site on this machine, with a study sent through it")
    parser.add_argument("--study", type=Path, help="a folder of DICOM files to send as they are")
    parser.add_argument(
        "--port", type=int, help=f"where the receiver listens (else {USUAL_PORT}, or any free port)"
    )
    parser.add_argument("--folder", type=Path, default=REPOSITORY / ".site", help="where all data go")
    parser.add_argument("--once", action="store_true", help="end after the account instead of staying up")
    return parser.parse_args()


def _interrupt(_number: int, _frame: object) -> None:
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)  # the programs are being stopped; a second Ctrl-C must not leave one
    raise KeyboardInterrupt


def _end_with_the_parent(parent: int) -> None:
    """End when make has died, even by SIGKILL: nobody else could press Ctrl-C."""
    while os.getppid() == parent:
        time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _show(options: argparse.Namespace, started: contextlib.ExitStack) -> None:
    folder: Path = options.folder.absolute()
    logs = folder / "log"
    logs.mkdir(parents=True, exist_ok=True)
    started.callback(_say, f"stopped; the data stay in {folder}, `rm -rf` it to start afresh")

    _say("starting Orthanc as the archive")
    archive = archives.start(folder / "archive", logs / "orthanc.log")
    started.callback(archive.program.stop)

    port = _port(options.port)
    # Beside another demonstration, which PORT is for, the usual ports may be free only until that one listens.
    orders_port, http_port = (
        (free_port(), free_port()) if options.port else (_free(USUAL_ORDERS_PORT), _free(USUAL_HTTP_PORT))
    )
    _say(f"starting another Orthanc as the PACS, with {' and '.join(pacses.ACCESSION_NUMBERS)}; a CD publisher")
    pacs, pacs_port = pacses.start(
        folder / "pacs", logs / "pacs.log", calling_ae_title=configuration.ORDERS_AE_TITLE, port=orders_port
    )
    started.callback(pacs.program.stop)
    publisher = publishers.start(folder / "publisher", logs / "publisher.log")
    started.callback(publisher.program.stop)

    places = (port, archive.studies, pacses.AE_TITLE, pacs_port, orders_port, publishers.AE_TITLE, publisher.port)
    peers = Peers(*places, http_port=http_port)
    site = configuration.write(folder, peers)
    command = [sys.executable, "-I", "-m", "pipeline", "--site", str(site)]
    _say(f"starting storestow: receiver {configuration.AE_TITLE} on port {port}, worker, links on {peers.root}")
    storestow = Program("storestow", [*command, "up"], logs / "storestow.log")
    started.callback(storestow.stop)
    _wait_for_receiver(port, storestow)
    _show_links(peers.root)

    study = studies.given(options.study) if options.study else studies.real(folder / "study")
    _say(f"sending {study.count} instances of {len(study.instances)} study by dcmsend from {study.folder}")
    begin = time.monotonic()
    _send(study, port, folder / "dcmsend.txt")
    account = _wait_for_account(command, study, [archive.program, storestow])
    console.print(accounts.table(account, study, archive, time.monotonic() - begin))
    _judge(account, study, archive)
    if not options.study:
        _send_late(studies.late(study, folder / "late"), port, folder / "dcmsend-late.txt", archive)
    _order(peers.root, command, folder, publisher, storestow)
    if not options.once:
        programs = [archive.program, pacs.program, publisher.program, storestow]
        _stay_up(peers, archive, publisher, site, programs, next(iter(study.instances)))


def _show_links(root: str) -> None:
    for what, address in links.addresses(root):
        console.print(f"click: {address}   {what}", soft_wrap=True, markup=False)


def _send_late(late: Study, port: int, report: Path, archive: Archive) -> None:
    """Have the modality send the rest of its study, and wait until the archive has it, too."""
    _say(f"the modality sends {late.count} late images of the same study")
    _send(late, port, report)
    end = time.monotonic() + STANDSTILL_SECONDS
    while accounts.verified(archive, late) < late.count:
        if time.monotonic() > end:
            raise Unhealthy("the late images do not arrive", 75)
        time.sleep(0.2)
    _say(f"the archive has the {late.count} late images, counted by QIDO-RS")


def _order(root: str, command: list[str], folder: Path, publisher: Publisher, storestow: Program) -> None:
    """Click the links of the HIS once: a disc, and a print."""
    links.wait_until_served(root, storestow)
    _say(f"the HIS asks for a disc of {pacses.ACCESSION_NUMBERS[0]}: C-FIND, C-MOVE, image, read back")
    image = links.download(root, folder)
    _say(f"disc of {image.stat().st_size / 1e6:.1f} MB, looked at again: {links.verified(command, image)}")
    _say(f"the HIS has {' and '.join(pacses.ACCESSION_NUMBERS)} printed")
    sent = links.print_all(root)
    _say(f"{sent} images were acknowledged by the CD publisher; it got {publisher.news()}")


def _say(sentence: str) -> None:
    console.print(f"run: {sentence}", soft_wrap=True, markup=False)


def _port(wanted: int | None) -> int:
    if wanted is None:
        return _free(USUAL_PORT)
    if not is_free(wanted):
        raise Unhealthy(f"port {wanted} is in use; name another one (make run PORT=...)")
    return wanted


def _free(usual: int) -> int:
    return usual if is_free(usual) else free_port()


def _wait_for_receiver(port: int, storestow: Program) -> None:
    """Wait until storescp answers a C-ECHO: before, storestow opens the port for a moment to see if it is free."""
    names = ("-aet", configuration.CALLING_AE_TITLE, "-aec", configuration.AE_TITLE)
    echo = [find("echoscu"), "-q", "-to", "2", "-ta", "2", "-td", "2", *names, "127.0.0.1", str(port)]
    end = time.monotonic() + START_SECONDS
    while subprocess.run(echo, env=ENVIRONMENT, stdin=subprocess.DEVNULL, check=False).returncode != 0:
        storestow.must_run()
        if time.monotonic() > end:
            raise Unhealthy(f"nobody answers on port {port} after {START_SECONDS} s; see {storestow.log}")
        time.sleep(0.1)


def _send(study: Study, port: int, report: Path) -> None:
    """Send with dcmsend, and believe its report: its exit code is 0 even when everything was refused."""
    report.unlink(missing_ok=True)
    done = subprocess.run(
        [
            *(find("dcmsend"), "-nh", "-nuc", "-dn", "+sd", "+r", "-to", "10", "+crf", str(report)),
            *("-aet", configuration.CALLING_AE_TITLE, "-aec", configuration.AE_TITLE),
            *("127.0.0.1", str(port), str(study.folder)),
        ],
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    acknowledged = report.read_text(errors="replace").count("0x0000 (Success)") if report.exists() else 0
    if acknowledged < study.count:
        raise Unhealthy(
            f"dcmsend had {acknowledged} of {study.count} instances acknowledged, see {report}\n{done.stderr}"
        )


def _wait_for_account(command: list[str], study: Study, programs: list[Program]) -> Account:
    account = Account()
    changed = time.monotonic()
    with _progress() as progress:
        received = progress.add_task("received", total=study.count)
        finished = progress.add_task("stored and verified", total=study.count)
        while account.finished < study.count:
            for program in programs:
                program.must_run()
            now, complaint = accounts.ask(command, study)
            if now != account:
                account, changed = now, time.monotonic()
            progress.update(received, completed=account.received)
            progress.update(finished, completed=account.finished)
            if time.monotonic() > changed + STANDSTILL_SECONDS:
                raise Unhealthy(
                    f"nothing happened for {STANDSTILL_SECONDS} s: {account} {complaint}; see {programs[-1].log}",
                    75,
                )
            time.sleep(0.2)
    return account


def _progress() -> Progress:
    return Progress(
        TextColumn("run: {task.description:20}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _judge(account: Account, study: Study, archive: Archive) -> None:
    if account.problems:
        raise Unhealthy("not everything arrived:\n  " + "\n  ".join(account.problems), 65)
    there = accounts.verified(archive, study)
    if there < study.count:
        raise Unhealthy(
            f"the archive has {there} of {study.count} instances, although storestow says all arrived", 70
        )


def _stay_up(  # noqa: PLR0913, PLR0917  # each is one of the lines
    peers: Peers, archive: Archive, publisher: Publisher, site: Path, programs: list[Program], study: str
) -> None:
    port = peers.port
    storestow = f"{Path(sys.executable).with_name('storestow')} --site {site}"
    names = f"-aet {configuration.CALLING_AE_TITLE} -aec {configuration.AE_TITLE}"
    lines = (
        f"send more: AE title {configuration.AE_TITLE}, port {port} (storescp listens on every address)",
        f"           TCP_NODELAY=1 dcmsend {names} +sd +r 127.0.0.1 {port} FOLDER",
        f"look:      {storestow} status",
        f"           {storestow} trace {study}",
        f"archive:   {archive.root}/app/explorer.html",
        f"log:       {programs[-1].log}",
        "Ctrl-C stops everything.",
    )
    with contextlib.suppress(KeyboardInterrupt):  # the way this is meant to end
        _show_links(peers.root)
        console.print("\n".join(lines), soft_wrap=True, markup=False)
        while True:
            time.sleep(1)
            for program in programs:
                program.must_run()
            if came := publisher.news():
                _say(f"the CD publisher got {came}")


if __name__ == "__main__":
    sys.exit(main())
