"""Bad input gets a sentence that names the file or key and the remedy, an exit code, and loses nothing."""

import os
import socket
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
from pydicom.uid import generate_uid
from support.machine.dicom_programs import dcmsend, free_port, program
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.line_site import instance
from support.sites.running_site import command, running_site, write_site
from support.studies.accounting import read

pytestmark = pytest.mark.programs

CONFIGURATION, UNAVAILABLE = 78, 69
COMMANDS: dict[str, tuple[str, ...]] = {
    "up": ("up",),
    "check": ("check",),
    "receive": ("receive", "modalities"),
    "work": ("work",),
    "status": ("status",),
}


@dataclass(frozen=True)
class Mistake:
    """Something wrong with a site: how it is made, what the sentences must name, and who must refuse to start."""

    make: Callable[[Path], Path]
    words: tuple[str, ...]
    refused_by: tuple[str, ...] = ("up", "check")


def site(folder: Path, *, receiver: dict[str, Any] | None = None, **more: Any) -> Path:
    table = {"name": "modalities", "ae_title": "STORESTOW", "port": free_port(), **(receiver or {})}
    return write_site(folder, receivers=[table], **more)


def replaced(file: Path, old: str, new: str) -> Path:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))
    return file


def _unknown_key(folder: Path) -> Path:
    return site(folder, site={"keep_orignals": "7d"})


def _unknown_key_of_a_receiver(folder: Path) -> Path:
    return site(folder, receiver={"quiet_second": 5})


def _unknown_key_of_a_destination(folder: Path) -> Path:
    url = "http://127.0.0.1:1/studies"
    return site(folder, destinations=[{"name": "archive", "kind": "stow", "url": url, "conections": 2}])


def _no_toml(folder: Path) -> Path:
    return replaced(site(folder), "[site]", "[site")


def _spool_below_a_file(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "file").write_text("")
    return site(folder, site={"spool": str(folder / "file" / "spool")})


def _blank_in_the_spool(folder: Path) -> Path:
    return site(folder, site={"spool": str(folder / "a spool")})


def _no_storescp(folder: Path) -> Path:
    return replaced(site(folder), program("storescp"), "/nowhere/storescp")


def _another_program(folder: Path) -> Path:
    return replaced(site(folder), program("storescp"), program("dcmsend"))


def _mapping_missing(folder: Path) -> Path:
    file = site(folder, mapping={"CT": "Hospital"})
    (folder / "mapping.json").unlink()
    return file


def _mapping_garbled(folder: Path) -> Path:
    file = site(folder, mapping={"CT": "Hospital"})
    (folder / "mapping.json").write_text('{"CT": ')
    return file


def _mapped_name_too_long(folder: Path) -> Path:
    return site(folder, mapping={"CT_ONE": "H" * 65})


MISTAKES = {
    "an unknown key": Mistake(
        _unknown_key, ("site.toml", "site.keep_orignals", "did you mean keep_originals?"), tuple(COMMANDS)
    ),
    "an unknown key of a receiver": Mistake(
        _unknown_key_of_a_receiver,
        ("site.toml", 'receiver "modalities".quiet_second', "did you mean quiet_seconds?"),
    ),
    "an unknown key of a destination": Mistake(
        _unknown_key_of_a_destination,
        ("site.toml", 'destination "archive"', "conections", "did you mean connections?"),
    ),
    "no TOML": Mistake(_no_toml, ("site.toml", "is not TOML", "line 1")),
    "a spool below a file": Mistake(
        _spool_below_a_file, ("file/spool", "cannot be made", "choose another [site] spool")
    ),
    "a blank in the spool's path": Mistake(_blank_in_the_spool, ("site.spool", "choose another folder")),
    "no storescp": Mistake(_no_storescp, ("[programs] storescp", "/nowhere/storescp"), ("up", "receive")),
    "another program": Mistake(_another_program, ("[programs] storescp", "dcmsend"), ("up", "receive")),
    "no mapping": Mistake(
        _mapping_missing, ("mapping.json", "cannot be read", "[site] institution_mapping"), ("up", "work")
    ),
    "a garbled mapping": Mistake(_mapping_garbled, ("mapping.json", "is not JSON"), ("up", "work")),
    "a mapped name too long": Mistake(_mapped_name_too_long, ("mapping.json", '"CT_ONE"', "64"), ("up", "work")),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_refused_with_what_it_is_and_what_to_do(tmp_path, name):
    mistake = MISTAKES[name]
    file = mistake.make(tmp_path / "site")
    for who in mistake.refused_by:
        done = command(file, *COMMANDS[who])
        assert_refused(done, CONFIGURATION, mistake.words)


def assert_refused(done: CompletedProcess[str], code: int, words: tuple[str, ...]) -> None:
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == code, said
    assert "Traceback" not in said
    assert [word for word in words if word not in said] == [], said
    assert len(done.stderr.splitlines()) == len(set(done.stderr.splitlines())), said


@pytest.mark.parametrize("mode", ["study", "association"])
def test_a_port_in_use_is_named_with_who_uses_it(tmp_path, mode):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        file = site(tmp_path / "site", receiver={"port": port, "mode": mode})
        for who in ("up", "check", "receive"):
            done = command(file, *COMMANDS[who])
            assert_refused(
                done, CONFIGURATION, (f"{port}", "in use", f"process {os.getpid()}", "choose another port")
            )


def snapshot(spool: Path) -> dict[str, bytes]:
    """Return every received file of a spool by its path."""
    files = [
        path for room in ("incoming", "arrivals", "settled", "quarantine") for path in (spool / room).rglob("*")
    ]
    received = [path for path in files if path.is_file() and not path.name.startswith(".")]
    return {str(path.relative_to(spool)): path.read_bytes() for path in received}


@pytest.fixture(scope="module")
def papers(tmp_path_factory) -> Path:
    """Return a folder with a server's certificate that vouches for itself, and another one."""
    folder = tmp_path_factory.mktemp("papers")
    for name in ("server", "other"):
        subprocess.run(
            [
                *(program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", f"{name}.key", "-out", f"{name}.pem"),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )
        (folder / f"{name}.key").chmod(0o600)
    return folder


def test_an_archive_that_cannot_be_reached_defers_and_loses_nothing(tmp_path):
    with FakeDcm4chee() as archive:
        nobody = f"http://127.0.0.1:{free_port()}/studies"
        wrong, right = {"url": nobody}, {"url": archive.url}
        defers_and_goes_on(tmp_path, wrong, "cannot be connected to", right, archive, code=UNAVAILABLE)


def test_an_archive_nobody_vouches_for_defers_and_loses_nothing(tmp_path, papers):
    with FakeDcm4chee(certificate=(papers / "server.pem", papers / "server.key")) as archive:
        wrong, right = (
            {"url": archive.url, "ca_bundle": str(papers / f"{name}.pem")} for name in ("other", "server")
        )
        defers_and_goes_on(tmp_path, wrong, "ca_bundle", right, archive, code=CONFIGURATION)


def defers_and_goes_on(
    folder: Path, wrong: dict[str, Any], word: str, right: dict[str, Any], archive: FakeDcm4chee, *, code: int
) -> None:
    """Send a study to a site that cannot deliver it, let `up` be refused in between, and mend the site."""
    study = generate_uid()
    (folder / "sent").mkdir()
    files = [instance(folder / "sent", str(number), StudyInstanceUID=study) for number in range(3)]
    table = {"name": "archive", "kind": "stow"}
    with running_site(folder / "site", destinations=[{**table, **wrong}]) as site:
        assert dcmsend(site.port, *files).acknowledged == 3
        status = site.wait_status(lambda answer: answer["deliveries"]["deferred"])
        (attention,) = status["attention"]
        assert word in attention["reason"]
        assert attention["due_at"] > attention["created_at"]
        check = site.run("check")
        assert_refused(check, code, ("destination archive", word))
        assert archive.stored == {}
    kept = snapshot(folder / "site" / "spool")
    assert len([name for name in kept if name.startswith("arrivals/")]) == 3

    replaced(folder / "site" / "site.toml", "[[destination]]", "[[destinations]]")
    assert_refused(command(folder / "site" / "site.toml", "up"), CONFIGURATION, ("did you mean destination?",))
    assert snapshot(folder / "site" / "spool") == kept

    with running_site(folder / "site", destinations=[{**table, **right}]) as site:
        site.run("retry", "--all")  # without it the back-off decides when
        site.wait_settled(3)
        assert {read(content).StudyInstanceUID for content in archive.stored.values()} == {study}
        assert len(archive.stored) == 3
        assert site.run("check").returncode == 0
