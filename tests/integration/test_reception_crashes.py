"""`receive` is killed at every named point of reception and started again: nothing acknowledged is lost."""

import os
import signal
from pathlib import Path

import pytest
from support.crash.moments import point_of
from support.machine.dicom_programs import dcmsend, wait_until
from support.sites.receiving import ROOT, Reception, end_storescps, receiving, write_instance

pytestmark = pytest.mark.programs

POINTS = {
    "association": ["association-opened", "association-ended", "sweep-admitting", "sweep-admitted"],
    "study": ["sweep-admitting", "sweep-admitted"],
}


def dying_at(point: str) -> str:
    """Return Python that kills the process the first time it reaches `point`."""
    return (
        "import os, signal\n"
        "from pipeline import crash_points\n"
        f"point = {point_of(point)!r}\n"
        "crash_points.observer = lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == point else None"
    )


def send_two_studies(r: Reception, folder: Path) -> int:
    files = [
        write_instance(folder / uid, number, study=uid) for number, uid in enumerate([f"{ROOT}.10", f"{ROOT}.20"])
    ]
    return sum(dcmsend(r.port, file).acknowledged for file in files)


@pytest.mark.parametrize(("mode", "point"), [(mode, point) for mode, points in POINTS.items() for point in points])
def test_nothing_acknowledged_is_lost_and_nothing_is_there_twice(tmp_path, mode, point):
    with receiving(tmp_path, mode, quiet_seconds=60, shorten=dying_at(point)) as r:
        acknowledged = send_two_studies(r, tmp_path / "out")
        if mode == "study":  # its sweep takes what is open when storescp has ended
            os.kill(r.process.pid, signal.SIGTERM)
        assert r.process.wait(20) == -signal.SIGKILL
        end_storescps(r.spool)
        with receiving(tmp_path, mode, quiet_seconds=60, port=r.port) as again:
            assert len(set(again.wait_for(acknowledged))) == acknowledged
            wait_until(lambda: not list(again.incoming.iterdir()), what="an empty incoming folder")
            assert dcmsend(again.port, write_instance(tmp_path / "more", 9, study=f"{ROOT}.30")).acknowledged == 1
