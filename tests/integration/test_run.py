"""`make run` shows a study going through the whole site, and leaves no process behind however it ends."""

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pydicom
import pytest
import requests
from support.machine.dicom_programs import free_port, wait_until

REPOSITORY = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.programs


class Show:
    """A `make run` in a terminal session of its own, its folder and port the test's."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder = folder
        self.output = folder.with_suffix(".txt")
        with self.output.open("wb") as output:
            self.make = psutil.Popen(
                ["make", "run", f"SITE={folder}", f"PORT={port}"],
                cwd=REPOSITORY,
                stdout=output,
                stderr=output,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )

    def said(self) -> str:
        return self.output.read_text(errors="replace")

    def wait_for(self, words: str) -> None:
        wait_until(lambda: words in self.said() or self.make.poll() is not None, seconds=120, what=words)
        assert self.make.poll() is None, self.said()

    def processes(self) -> set[psutil.Process]:
        mine = set(self.make.children(recursive=True)) if self.make.is_running() else set()
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in word for word in process.info["cmdline"] or ()):
                mine.add(process)
        return {process for process in mine if _lives(process)}


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def show(tmp_path: Path) -> Iterator[Callable[..., Show]]:
    shows: list[Show] = []
    port = free_port()

    def start(name: str = "site") -> Show:
        shows.append(Show(tmp_path / name, port))
        return shows[-1]

    yield start
    for one in shows:
        for process in one.processes() | {one.make}:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        one.make.wait()


def ctrl_c(show: Show) -> None:
    os.killpg(show.make.pid, signal.SIGINT)  # what a terminal does: everybody in the foreground group gets it


def terminate_make(show: Show) -> None:
    show.make.terminate()


def kill_make(show: Show) -> None:
    show.make.kill()


def kill_the_demonstration_itself(show: Show) -> None:
    [demonstration] = show.make.children()
    demonstration.kill()


def test_a_study_goes_through_and_after_ctrl_c_the_next_run_works_at_once(show: Callable[..., Show]) -> None:
    for _ in range(2):
        site = show()
        site.wait_for("Ctrl-C stops everything")
        sent = re.search(r"sending (\d+) instances", site.said())
        assert sent
        assert int(sent[1]) >= 20
        for what in ("sent", "received", "coerced", "encoded", "stored", "verified"):
            assert re.search(rf"{what} +│ +{sent[1]} ", site.said()), site.said()
        assert re.search(r"ratio [1-9]", site.said())
        assert "dcmsend -aet" in site.said()
        assert "the archive has the 2 late images, counted by QIDO-RS" in site.said()
        assert re.search(r"disc of [0-9.]+ MB, looked at again: nothing wrong was found", site.said()), site.said()
        assert "it got 10 images of DEMO1, 10 images of DEMO2" in site.said()
        clicks = set(re.findall(r"click: (\S+)", site.said()))
        assert len(clicks) == 3
        for address in clicks:
            page = requests.get(address, headers={"Accept": "text/html"}, timeout=30)
            assert (page.status_code, page.headers["Content-Type"].split(";")[0]) == (200, "text/html"), address
        before = site.processes()
        assert len(before) > 4
        ctrl_c(site)
        site.make.wait(40)
        assert not {process for process in before | site.processes() if _lives(process)}


@pytest.mark.parametrize(
    ("moment", "ending"),
    [
        ("starting Orthanc", terminate_make),
        ("starting storestow", kill_make),
        ("sending", terminate_make),
        ("sending", kill_the_demonstration_itself),
    ],
)
def test_nothing_survives_its_end_at_any_moment(
    show: Callable[..., Show], moment: str, ending: Callable[[Show], None]
) -> None:
    site = show()
    site.wait_for(moment)
    time.sleep(0.3)  # let what was just announced begin
    before = site.processes()
    ending(site)
    wait_until(
        lambda: not {process for process in before | site.processes() if _lives(process)},
        seconds=40,
        what=f"{site.said()}\n{site.processes()}",
    )


def test_a_port_in_use_is_said_and_nothing_is_left(show: Callable[..., Show]) -> None:
    site = show()
    site.wait_for("starting storestow")
    site.wait_for("sending")
    second = show("second")
    wait_until(lambda: second.make.poll() is not None, seconds=60)
    assert "is in use" in second.said()
    assert second.make.returncode != 0
    assert not second.processes()


def test_a_clone_without_real_studies_beside_it_sends_a_study_of_one_patient(tmp_path: Path) -> None:
    script = "study.CORPUS_STUDY = pathlib.Path('absent'); study.real(pathlib.Path(sys.argv[1]))"
    argv = [sys.executable, "-c", f"import pathlib, sys, study; {script}", str(tmp_path / "study")]
    subprocess.run(argv, cwd=REPOSITORY / "demo", check=True)
    sent = [pydicom.dcmread(file, stop_before_pixels=True) for file in (tmp_path / "study").iterdir()]
    assert len({one.SOPInstanceUID for one in sent}) == 20
    assert len({one.StudyInstanceUID for one in sent}) == 1
    who = {(one.PatientID, str(one.PatientName), one.PatientBirthDate, one.PatientSex) for one in sent}
    assert len(who) == 1
