"""Before the disk is full new associations are refused, and above the mark reception resumes by itself."""

import contextlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from support.machine.dicom_programs import dcmsend, echoscu, free_port, listens, running, wait_until
from support.peers.association_requests import answer, rejection
from support.sites.receiving import CT, ROOT, Reception, files_of, receiving, write_instance, write_site

pytestmark = pytest.mark.programs

A, B = f"{ROOT}.10", f"{ROOT}.20"
GIB = 1 << 30


def injected(gauge: Path) -> str:
    """Return what makes the receiver read its free space from a file, and look often."""
    return (
        "from pathlib import Path\nfrom pipeline.site import disk_space\n"
        "from pipeline.receiving import association_receiver\n"
        f"disk_space.free_bytes = lambda folder: int(Path({str(gauge)!r}).read_text())\n"
        "association_receiver.LOOK_SECONDS = 0.2"
    )


@contextlib.contextmanager
def gauged(folder: Path, mode: str):
    gauge = folder / "free"
    gauge.write_text(str(20 * GIB))

    def free(gibibytes: float) -> None:
        beside = gauge.with_suffix(".new")
        beside.write_text(str(int(gibibytes * GIB)))
        beside.rename(gauge)

    with receiving(folder, mode, shorten=injected(gauge)) as r:
        yield r, free


def test_association_mode_rejects_and_resumes(tmp_path):
    with gauged(tmp_path, "association") as (r, free):
        free(3)
        assert echoscu(r.port).exit_code == 0
        free(0.5)
        assert answer(r.port) == rejection(2, 3, 2)
        free(1.05)
        assert answer(r.port) == rejection(2, 3, 2)  # a little more is not enough
        free(20)
        assert dcmsend(r.port, write_instance(tmp_path / "out", 1)).acknowledged == 1
        r.wait_for(1)
        said = [line.partition(" space-")[2] for line in r.text().splitlines() if " space-" in line]
        assert [line.split()[0] + line.split()[-1] for line in said] == [
            "lowreceiving=yes",
            "lowreceiving=no",
            "backreceiving=yes",
        ]


def test_association_mode_lets_an_association_under_way_finish(tmp_path):
    with gauged(tmp_path, "association") as (r, free):
        ae = AE(ae_title="CT")
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        open_one = ae.associate("127.0.0.1", r.port)
        free(0.1)
        wait_until(lambda: "space-low" in r.text(), what="the alarm, without anybody calling")
        assert open_one.send_c_store(dcmread(write_instance(tmp_path / "out", 1))).Status == 0
        open_one.release()
        r.wait_for(1)


def test_study_mode_closes_the_port_after_its_open_study_and_opens_it_again(tmp_path):
    with gauged(tmp_path, "study") as (r, free):
        assert dcmsend(r.port, write_instance(tmp_path / "out", 1, study=A)).acknowledged == 1
        free(0.9)
        r.wait_for(1)
        wait_until(lambda: not r.storescps(), what="the end of storescp")
        assert echoscu(r.port).exit_code != 0
        free(20)
        wait_until(lambda: r.text().count("receiver-started") == 2, what="a new storescp")
        assert dcmsend(r.port, write_instance(tmp_path / "out", 2, study=B)).acknowledged == 1
        r.wait_for(2)
        assert "receiver-restarted" not in r.text()


def test_study_mode_cuts_a_sender_off_when_half_of_the_reserve_is_gone_and_keeps_what_it_acknowledged(tmp_path):
    with gauged(tmp_path, "study") as (r, free):
        ae = AE(ae_title="CT")
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        stays = ae.associate("127.0.0.1", r.port)
        assert stays.send_c_store(dcmread(write_instance(tmp_path / "out", 1))).Status == 0
        free(0.4)
        wait_until(lambda: not r.storescps(), what="the end of storescp")
        r.wait_for(1)
        stays.abort()


@pytest.mark.parametrize("mode", ["study", "association"])
def test_a_receiver_that_starts_on_a_full_disk_waits_and_stops_when_asked(tmp_path, mode):
    (tmp_path / "free").write_text("0")
    port, log = free_port(), tmp_path / "log"
    site = write_site(tmp_path, mode, port)
    start = f"{injected(tmp_path / 'free')}\nfrom pipeline.commands.cli import main\nmain()"
    with running([sys.executable, "-I", "-c", start, "--site", site, "receive", "r"], log=log) as process:
        wait_until(lambda: "receiving=no" in log.read_text(), what="the alarm")
        assert mode == "association" or not listens(port)
        process.terminate()
        assert process.wait(20) == 0


# --- a real file system -----------------------------------------------------------------------------------


def may_mount() -> bool:
    """Say whether this is root on Linux, and no container that keeps it from mounting."""
    if sys.platform != "linux" or os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode == 0


@contextlib.contextmanager
def small_disk(folder: Path, size: str):
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "none", str(folder)], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.skipif(not may_mount(), reason="only root on Linux may mount")
@pytest.mark.parametrize("mode", ["association", "study"])
def test_on_a_disk_that_really_fills_nothing_acknowledged_is_lost_and_reception_resumes(tmp_path, mode):
    files = [write_instance(tmp_path / "out", n, study=f"{ROOT}.7.{n // 20}", size=60_000) for n in range(240)]
    with small_disk(tmp_path / "disk", "12m") as disk:
        marks = 'alarm_below = "6 MiB"\nrefuse_below = "3 MiB"'
        with receiving(disk, mode, site_keys=marks) as r:
            acknowledged: list[int] = []
            for start in range(0, 240, 10):
                acknowledged.append(dcmsend(r.port, *files[start : start + 10], timeout=60).acknowledged)
                if acknowledged[-1] < 10:
                    break
                time.sleep(0.5)  # study mode looks every second
            total = sum(acknowledged)
            assert 50 < total < 240
            assert "receiving=no" in r.text()
            wait_until(lambda: not list(r.incoming.iterdir()), what="the end of reception")
            assert len(whole_ones(r)) >= total
            for folder in r.arrivals():  # as the worker makes room
                for file in folder.iterdir():
                    file.unlink()
                folder.rmdir()
            wait_until(lambda: echoscu(r.port).exit_code == 0, what="reception to resume")
            assert dcmsend(r.port, *files[-5:]).acknowledged == 5


def whole_ones(r: Reception) -> list[Path]:
    return [file for folder in r.arrivals() for file in files_of(folder) if file.stat().st_size > 60_000]
