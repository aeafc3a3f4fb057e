"""Every command line of ours in the documents works on a small site, or stands here with why it is not run."""

import contextlib
import io
import shutil
from pathlib import Path

import pytest
import typer
from pydicom.uid import generate_uid
from sqlalchemy import select, update
from support.machine.documented_commands import DOCUMENTS, ours
from support.sites.line_site import arrive, instance, rounds, states, working

from pipeline.commands import cli
from pipeline.commands.cli import app
from pipeline.commands.command_site import CommandContext
from pipeline.dicom.accession import AccessionNumber
from pipeline.errors import StorestowError
from pipeline.ledger.tables import arrival, delivery, receipt
from pipeline.ledger.tables import instance as instances
from pipeline.model import ReceiptState
from pipeline.orders import place
from pipeline.site.settings import load
from pipeline.site.site_ledger import ledger_of

pytestmark = pytest.mark.programs

PROGRAM = typer.main.get_command(app)
STUDY = generate_uid()
SITE = """
[site]
spool = "{folder}/spool"
workers = 1
[[receiver]]
name = "modalities"
ae_title = "STORESTOW"
port = 11112
to = {to}
[[receiver]]
name = "cdrecord"
ae_title = "CDRECORD"
port = 10104
mode = "association"
coerce = false
to = []
[[destination]]
name = "archive"
kind = "folder"
folder = "{folder}/archive"
[[destination]]
name = "publisher"
kind = "cstore"
ae_title = "ANY-SCP"
host = "127.0.0.1"
port = 1
calling_ae_title = "CDRECORD"
[[destination]]
name = "disc"
kind = "iso"
folder = "{folder}/discs"
[pacs]
ae_title = "PACS"
host = "127.0.0.1"
port = 1
calling_ae_title = "CDRECORD"
receiver = "cdrecord"
[shim]
operator_key = "a-key-of-sixteen-or-more"
"""
OLD = '[[destination]]\nname = "old"\nkind = "stow"\nurl = "http://127.0.0.1:1/studies"\n'
WAITS = "it runs until it is stopped, or until its order ends: integration tests start it with its peers"
NOT_RUN = {  # first word: why it is not run here
    "init": "test_first_study and test_init type it where its peers are",
    "up": WAITS,
    "serve": WAITS,
    "work": WAITS,
    "receive": WAITS,
    "retrieve": WAITS,
    "send": WAITS,
    "install": "it writes the services of the machine: test_installed_services",
    "relocate": "it wants a PostgreSQL server: test_postgresql",
    "health": "it wants a site that runs: test_own_parts",
    "drain": "it wants a node that has reported: test_drain",
    "forget": "it wants a node that is lost: test_drain",
    "fleet": "it wants other sites: the tests of fleet",
}
REFUSED = {  # beginning of a line: its exit code, where that is not 0
    "quarantine release ARRIVAL/FILE": (65, "not a DICOM file"),
    "trace --archived": (64, "nothing is known"),  # Nothing has been forgotten yet.
    "check": (78, ""),  # Deliveries wait for a destination that is not configured any more.
}
# Prose names the command alone; what must follow stands elsewhere.
NAMES = {"explain", "retry", "quarantine release", "accept", "backup", "cancel", "disc", "disc --encrypt"} | {
    *(
        "disc --json",
        "disc verify",
        "pause",
        "resume",
        "trace",
        "trace --archived",
        "quarantine discard",
        "reroute",
    )
}


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A site where something was delivered, waits, is set aside, is ordered, and cannot be compared."""
    folder = tmp_path_factory.mktemp("site")
    for name in ("archive", "discs", "files"):
        (folder / name).mkdir()
    file = folder / "site.toml"
    file.write_text(SITE.format(folder=folder, to='["archive", "publisher", "old"]') + OLD)
    settings = load(file)
    about = {"StudyInstanceUID": STUDY, "AccessionNumber": "A1"}
    with working(settings) as (site, worker):
        arrive(site.spool, instance(folder / "files", "a", **about))
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1, "deferred": 2})
        another = {"PatientName": "SOMEBODY^ELSE", "PatientID": "ANOTHER", "PatientBirthDate": "19010101"}
        arrive(site.spool, instance(folder, "b", **about, **another))
        (folder / "rubbish").write_bytes(b"no DICOM at all")
        arrive(site.spool, folder / "rubbish")
        rounds(worker, until=lambda: states(site, "arrivals").get("quarantined") == 1)
        rounds(worker, until=lambda: states(site, "instances").get("quarantined") == 2)
        place(
            site.ledger, settings, verb="print", accessions=[AccessionNumber.parse("A9")], destination="publisher"
        )
        with site.ledger.transaction() as connection:
            of_publisher = select(delivery.c.id).where(delivery.c.destination == "publisher")
            unproven = {"state": ReceiptState.PRESENT, "verified": False}
            connection.execute(update(receipt).where(receipt.c.delivery.in_(of_publisher)).values(**unproven))
    file.write_text(SITE.format(folder=folder, to='["archive"]'))
    run(["disc", str(folder / "files"), "-o", str(folder / "A1.iso")], folder)
    return folder


def set_aside(file: Path) -> tuple[str, str]:
    """Return arrival and file of what is no DICOM."""
    with contextlib.closing(ledger_of(load(file))) as ledger, ledger.reading() as connection:
        wanted = select(arrival.c.name).where(arrival.c.state == "quarantined")
        name: str = connection.scalars(wanted).one()
        return name, connection.scalars(select(instances.c.file).where(instances.c.arrival == name)).one()


def run(words: list[str], folder: Path) -> tuple[int, str]:
    """Run a command in this process as the program does; return its exit code and why it was refused."""
    own = [] if "--site" in words or words[0] in {"init", "disc"} else ["--site", str(folder / "site.toml")]
    try:
        return int(PROGRAM.main([*own, *words], prog_name="storestow", standalone_mode=False) or 0), ""
    except StorestowError as error:
        return error.exit_code, str(error)
    except SystemExit as end:
        return int(end.code or 0), ""


def meant(words: list[str], folder: Path, aside: tuple[str, str]) -> list[str]:
    """Return a documented line with what its placeholders stand for on the site."""
    name = {"quarantine": aside[0], "explain": "modalities", "retry": "publisher"}.get(words[0], "archive")
    file = (
        folder / "copy" if words[0] == "backup" else folder / "A1.iso" if "verify" in words else folder / "files/a"
    )
    stands_for = {
        **dict.fromkeys(("ACCESSION", "4711", "SUBJECT"), "A1"),
        **dict.fromkeys(("STUDY-UID", "STUDY", "UID"), STUDY),
        **dict.fromkeys(("FOLDER", "PATH", "PATH...", "PATH…"), str(folder / "files")),
        **dict.fromkeys(("WORDS", "TEXT"), "a reason"),
        **dict.fromkeys(
            ("A1.iso", "A77421.iso", "FILE.iso"), str(folder / ("A1.iso" if "verify" in words else "new.iso"))
        ),
        "A77421.zip": str(folder / "new.zip"),
        "FILE": str(file),
        "NAME": name,
        "RECEIVER": "modalities",
        "TITLE": "CT1",
        "OLD": "old",
        "NEW": "archive",
        "ARRIVAL/FILE": "/".join(aside),
        "both.toml": str(folder / "site.toml"),
    }
    return [stands_for.get(word, word) for word in words]


LINES = sorted({tuple(words) for document in DOCUMENTS for words in ours(document.read_text())})
RUN = [line for line in LINES if not set(line) & NOT_RUN.keys()]


@pytest.mark.parametrize("words", RUN, ids=" ".join)
def test_a_documented_command_does_what_it_says(site, tmp_path, monkeypatch, words):
    monkeypatch.setattr(cli, "log_to_stderr", lambda **_: None)
    monkeypatch.setattr(CommandContext, "site", None)
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    folder = tmp_path / "site"
    shutil.copytree(site, folder)
    file = folder / "site.toml"
    file.write_text(file.read_text().replace(str(site), str(folder)))
    monkeypatch.chdir(folder)
    line, refused = " ".join(words), (0, "")
    with contextlib.suppress(typer.BadParameter.__base__) if line in NAMES else contextlib.nullcontext():
        code, said = run(meant(list(words), folder, set_aside(file)), folder)
        refused = next((end for begin, end in REFUSED.items() if line.startswith(begin)), (0, ""))
        assert line in NAMES or (code == refused[0] and refused[1] in said), said


def test_what_is_not_run_here_has_a_command_and_a_reason():
    known = {word for line in LINES for word in line}
    assert NOT_RUN.keys() <= known
    assert len(RUN) > 40
