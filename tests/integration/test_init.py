"""`storestow init` writes a site that starts and delivers, asks its peers for real, and overwrites nothing."""

import subprocess
from pathlib import Path

import pytest
import requests
from support.machine.dicom_programs import dcmsend, free_port, orthanc, running, wait_until
from support.peers.archives import study
from support.peers.fake_his import fake_his
from support.sites.running_site import COMMAND, command

pytestmark = pytest.mark.programs


def init(file: Path, *words: object) -> subprocess.CompletedProcess[str]:
    places = ("--output", file, "--spool", file.parent / "spool")
    argv = [*COMMAND, "init", *places, *words]
    return subprocess.run(
        [str(word) for word in argv], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )


def found(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """Return how each thing is that was tried."""
    lines = done.stdout.split("\n\n", maxsplit=1)[0].splitlines()
    return {line.split(": ")[0].split(" ", maxsplit=1)[1]: line.split()[0] for line in lines if line[0] != "w"}


def test_every_peer_of_a_new_site_is_asked_and_its_first_study_arrives(tmp_path):
    file, port, calling = tmp_path / "site.toml", free_port(), "CDRECORD"
    with orthanc(tmp_path / "archive") as archive, fake_his() as his:
        done = init(
            file,
            *("--for", "archive,orders", "--archive-url", f"{archive.rest}/dicom-web/studies", "--port", port),
            *("--pacs", f"ORTHANC@127.0.0.1:{archive.dicom_port}", "--calling-ae-title", calling),
            *("--orders-port", free_port(), "--discs", tmp_path / "discs"),
            *("--publisher", f"ORTHANC@127.0.0.1:{archive.dicom_port}", "--his", f"http://127.0.0.1:{his.port}"),
            *("--sender", "CT1=Example Hospital"),
        )
        assert done.returncode == 0, done.stderr
        how = found(done)
        peers = ("pacs", "patients", "destination archive", "destination disc", "destination publisher")
        assert {how[peer] for peer in peers} == {"ok"}, done.stdout
        assert his.asked == ["STORESTOW-CHECK"]
        assert f"now run:\n  storestow check --site {file}" in done.stdout
        assert command(file, "check").returncode == 0, "before anything runs"

        toml = file.read_text().replace("port = 8090", f"port = {free_port()}")
        file.write_text(toml.replace("quiet_seconds = 10", "quiet_seconds = 1"))
        made = study(tmp_path / "study", "A1")

        def has_arrived() -> bool:
            return len(requests.get(f"{archive.rest}/instances", timeout=10).json()) == len(made)

        with running([*COMMAND, "--site", file, "up"], log=tmp_path / "up.log", port=port):
            assert dcmsend(port, *made, calling="CT1", called="STORESTOW").acknowledged == len(made)
            wait_until(has_arrived, seconds=60, what="the study")


@pytest.mark.parametrize("kind", ["archive", "orders", "relay"])
def test_a_site_whose_peers_are_all_down_is_written_all_the_same(tmp_path, kind):
    dead = f"PACS@127.0.0.1:{free_port()}"
    words = {
        "archive": ("--archive-url", f"http://127.0.0.1:{free_port()}/studies"),
        "orders": ("--pacs", dead),
        "relay": ("--relay-to", dead),
    }
    file = tmp_path / "site.toml"
    done = init(file, "--for", kind, "--port", free_port(), "--orders-port", free_port(), *words[kind])
    assert done.returncode == 0, done.stderr
    assert "unreachable" in found(done).values()
    file.write_text(file.read_text().replace("port = 8090", f"port = {free_port()}"))
    checked = command(file, "check")
    assert checked.returncode == 69, checked.stdout


def test_nothing_that_is_there_is_overwritten(tmp_path):
    relay = ("--for", "relay", "--relay-to", f"PACS@127.0.0.1:{free_port()}")
    mapping = tmp_path / "institution_mapping.json"
    mapping.write_text('{"MR1": "Theirs"}')
    done = init(tmp_path / "site.toml", *relay, "--sender", "CT1=Ours")
    assert (done.returncode, mapping.read_text()) == (0, '{"MR1": "Theirs"}')
    assert f"kept as it is: {mapping}" in done.stdout
    assert 'to be added by hand: {"CT1": "Ours"}' in done.stdout
    mapping.write_text('{"CT1": "Ours"}')
    assert "by hand" not in init(tmp_path / "other.toml", *relay, "--sender", "CT1=Ours").stdout
    before = (tmp_path / "site.toml").read_bytes()
    again = init(tmp_path / "site.toml", *relay)
    assert again.returncode == 64
    assert "is not overwritten" in again.stderr
    assert (tmp_path / "site.toml").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "told"),
    [
        (("--for", "archive"), 64, "--archive-url is needed"),
        (("--for", "burn"), 64, "archive (receive from modalities"),
        (("--for", "relay", "--relay-to", "PACS"), 64, "AE@HOST:PORT"),
        (("--for", "relay", "--relay-to", "PA\\CS@h:1"), 78, 'destination "relay".ae_title'),
        (("--for", "relay", "--relay-to", "PACS@h:1", "--sender", "CT1"), 64, "AE=NAME"),
    ],
)
def test_an_answer_that_cannot_be_right_is_told_and_nothing_is_written(tmp_path, words, code, told):
    done = init(tmp_path / "site.toml", *words)
    assert (done.returncode, list(tmp_path.iterdir())) == (code, [])
    assert told in done.stderr
