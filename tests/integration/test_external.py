"""A storescp that somebody else runs, with our hook: by hand, by the printed line, and with no daemon of ours."""

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread
from pynetdicom import AE
from support.machine.dicom_programs import (
    ENVIRONMENT,
    dcmsend,
    echoscu,
    free_port,
    listens,
    program,
    running,
    wait_until,
)
from support.sites.receiving import CT, ROOT, write_instance
from support.sites.running_site import command, running_site, write_site

from pipeline.receiving.foreign import MARGIN_SECONDS, UNTOUCHED_SECONDS
from pipeline.receiving.sweep import sweep_abandoned
from pipeline.site.settings import load
from pipeline.spool.spool import Spool, hook_file

pytestmark = pytest.mark.programs

A, B = f"{ROOT}.10", f"{ROOT}.20"


def study(folder: Path, uid: str, count: int, first: int = 1) -> list[Path]:
    return [write_instance(folder, first + n, study=uid) for n in range(count)]


@contextlib.contextmanager
def storescp(spool: Spool, port: int, *options: str, hook: str = "study-complete") -> Iterator[psutil.Process]:
    """Run a storescp as a person would who read the card: `-su` and `-xcs` and our hook."""
    spool.prepare()
    incoming = spool.prepare_receiver("r")
    called = f"{sys.executable} -I -S {hook_file(hook)} {incoming} #p"
    argv = [program("storescp"), "-aet", "STORESTOW", "-od", incoming, "-uf", "-xcs", called, *options, str(port)]
    with running([*map(str, argv)], log=spool.root.parent / "storescp.log", port=port) as process:
        yield psutil.Process(process.pid)


def external(folder: Path, port: int, **keys: object) -> tuple[Path, Spool]:
    """Write a site with an external receiver `r` whose studies go to the folder `out`; return file and spool."""
    (folder / "out").mkdir(parents=True)
    out = {"name": "out", "kind": "folder", "folder": str(folder / "out")}
    receiver = {"name": "r", "ae_title": "STORESTOW", "port": port, "mode": "external", "quiet_seconds": 1, **keys}
    return write_site(folder, receivers=[receiver], destinations=[out]), Spool(folder / "spool")


def delivered(folder: Path) -> list[Path]:
    return [file for file in (folder / "out").rglob("*.dcm") if file.is_file()]


@pytest.mark.parametrize("prefix", ["", "S", "OLD"])
def test_a_storescp_started_by_hand_is_part_of_the_site(tmp_path, prefix):
    out = {"name": "out", "kind": "folder", "folder": str(tmp_path / "out")}
    (tmp_path / "out").mkdir()
    port = free_port()
    with storescp(Spool(tmp_path / "spool"), port, "-su", prefix, "-xs", "-tos", "1"):
        receivers = [{"name": "r", "mode": "external", "port": port}]
        with running_site(tmp_path, receivers=receivers, destinations=[out]) as site:
            assert site.status()["receivers"][0]["state"] == "up"
            assert dcmsend(port, *study(tmp_path / "a", A, 3)).acknowledged == 3
            assert dcmsend(port, *study(tmp_path / "b", B, 2, first=9)).acknowledged == 2
            site.wait_settled(5)
            assert len(delivered(tmp_path)) == 5
            assert not site.quarantine()
    assert not (tmp_path / "spool/run/r.objects.log").exists()


def test_nothing_is_renamed_under_a_storescp_that_is_not_ours(tmp_path):
    port = free_port()
    file, spool = external(tmp_path, port)
    receiver = load(file).receiver_named("r")
    stop = threading.Event()
    taken: list[str] = []

    def sweep() -> None:
        while not stop.wait(0.01):
            for table in (receiver, receiver.model_copy(update={"mode": "study"}), None):
                taken.extend(sweep_abandoned(spool, "r", table))

    with storescp(spool, port, "-su", ""):
        sweeper = threading.Thread(target=sweep)
        sweeper.start()
        ae = AE(ae_title="SLOW")
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        slow = ae.associate("127.0.0.1", port)
        answers = []
        for one in study(tmp_path / "slow", A, 16):
            answers.append(slow.send_c_store(dcmread(one)).Status)
            time.sleep(0.05)
        slow.release()
        stop.set()
        sweeper.join()
        assert answers == [0] * 16
        assert taken == []


def test_what_a_storescp_that_is_gone_has_left_is_taken_from_one_of_ours_at_once_and_from_another_after_an_hour(
    tmp_path,
):
    port = free_port()
    file, spool = external(tmp_path, port)
    receiver = load(file).receiver_named("r")
    with storescp(spool, port, "-su", "S"):
        assert dcmsend(port, *study(tmp_path / "a", A, 2)).acknowledged == 2
    (folder,) = spool.incoming_of("r").iterdir()
    assert sweep_abandoned(spool, "r", receiver) == []
    make_older(folder, UNTOUCHED_SECONDS - 60)
    assert sweep_abandoned(spool, "r", receiver) == []
    assert len(sweep_abandoned(spool, "r", receiver.model_copy(update={"mode": "study"}))) == 1


def test_what_no_hook_announced_is_taken_after_an_hour_unless_somebody_is_connected(tmp_path, monkeypatch):
    port = free_port()
    file, spool = external(tmp_path, port)
    receiver = load(file).receiver_named("r")
    with storescp(spool, port, "-su", "S"):  # without -tos it waits for another study for ever
        assert dcmsend(port, *study(tmp_path / "a", A, 2)).acknowledged == 2
        later = time.time() + UNTOUCHED_SECONDS + 1
        monkeypatch.setattr("pipeline.receiving.sweep.time.time", lambda: later)
        ae = AE(ae_title="IDLE")
        ae.add_requested_context("1.2.840.10008.1.1")
        idle = ae.associate("127.0.0.1", port)
        assert sweep_abandoned(spool, "r", receiver) == []
        idle.release()
        wait_until(lambda: len(sweep_abandoned(spool, "r", receiver)) == 1, what="the sweep")


def test_what_is_older_than_the_storescp_that_runs_now_is_taken_at_once(tmp_path):
    port = free_port()
    file, spool = external(tmp_path, port)
    receiver = load(file).receiver_named("r")
    with storescp(spool, port, "-su", "S"):
        assert dcmsend(port, *study(tmp_path / "a", A, 2)).acknowledged == 2
    # The kernel dates both, so the time itself is tested; a process's beginning may be told in whole seconds.
    time.sleep(MARGIN_SECONDS + 1.5)
    with storescp(spool, port, "-su", "S"):
        assert dcmsend(port, *study(tmp_path / "b", B, 1, first=9)).acknowledged == 1
        assert len(sweep_abandoned(spool, "r", receiver)) == 1
        assert [folder.name for folder in spool.incoming_of("r").iterdir()] == [f"S_{B}"]


def make_older(folder: Path, seconds: float) -> None:
    for path in (folder, *folder.iterdir()):
        os.utime(path, (time.time() - seconds,) * 2)


def test_files_that_lie_in_the_incoming_folder_itself_are_found(tmp_path):
    port = free_port()
    _, spool = external(tmp_path, port)
    with storescp(spool, port, "-su", "", "-xs", "-tos", "1"):
        assert dcmsend(port, *study(tmp_path / "a", ".", 2)).acknowledged == 2
    assert len(sweep_abandoned(spool, "r", None)) == 1
    (arrival,) = spool.arrivals.iterdir()
    assert len(list(arrival.iterdir())) == 2


def started_as_printed(file: Path, folder: Path, port: int) -> contextlib.AbstractContextManager[object]:
    printed = command(file, "receive", "r", "--print")
    assert printed.returncode == 0, printed.stderr
    return running(["/bin/sh", "-c", f"exec env {printed.stdout.strip()}"], log=folder / "storescp.log", port=port)


def test_the_printed_line_makes_a_receiver_that_also_notices_what_storescp_drops(tmp_path):
    port = free_port()
    file, _ = external(tmp_path, port)
    with started_as_printed(file, tmp_path, port):
        receivers = [{"name": "r", "mode": "external", "port": port}]
        out = {"name": "out", "kind": "folder", "folder": str(tmp_path / "out")}
        with running_site(tmp_path, receivers=receivers, destinations=[out]) as site:
            checked = site.run("check").stdout
            assert "a storescp with all it needs listens" in " ".join(checked.split())
            (plain,) = study(tmp_path / "a", A, 1)
            twice = write_instance(tmp_path / "b", 2, study=A, sop=f"{ROOT}.2.99")
            content = twice.read_bytes()
            maker = b"\x08\0\x70\0LO\x02\0AB"
            at = content.index(b"\x10\0\x10\0PN")
            twice.write_bytes(content[:at] + maker + maker + content[at:])
            assert dcmsend(port, plain).acknowledged == 1
            from support.peers.raw_sender import object_of, send  # DCMTK would not send it as it is

            assert send(port, [object_of(twice)]) == [""]
            site.wait_settled(2)
            assert [row["code"] for row in site.quarantine()] == ["misread"]
            assert len(delivered(tmp_path)) == 1


def test_check_says_what_a_storescp_by_hand_lacks(tmp_path):
    port = free_port()
    file, spool = external(tmp_path, port)
    with storescp(spool, port, "-su", ""):
        said = " ".join(command(file, "check").stdout.split())
    for option in ("-xs", "-tos", "+uf", "-lc"):
        assert f"without {option} " in said
    assert "without -xcs" not in said
    assert "nobody listens on port" in " ".join(command(file, "check").stdout.split())


def test_receive_leaves_an_external_receiver_alone_and_says_what_to_do(tmp_path):
    file, _ = external(tmp_path, free_port())
    refused = command(file, "receive", "r")
    assert refused.returncode == 78
    assert "receive r --print" in refused.stderr


def workers_of(file: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            words = process.cmdline()
            if str(file) in words and "--until-idle" in words and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def test_a_study_is_processed_without_any_daemon_of_ours(tmp_path):
    port = free_port()
    file, spool = external(tmp_path, port, hook="process-study")
    try:
        with started_as_printed(file, tmp_path, port):
            assert dcmsend(port, *study(tmp_path / "a", A, 3)).acknowledged == 3
            worker = wait_until(lambda: workers_of(file), what="a worker")[0]
            assert worker.parent() is None or worker.parent().name() != "storescp"
            assert echoscu(port).exit_code == 0  # storescp does not wait for it
            wait_until(lambda: len(delivered(tmp_path)) == 3, seconds=60, what="the delivery")
            assert not [c for c in worker.net_connections("tcp") if c.laddr and c.laddr.port == port]
            wait_until(lambda: not workers_of(file), seconds=60, what="the worker's end")
            assert dcmsend(port, *study(tmp_path / "b", B, 2, first=9)).acknowledged == 2
            wait_until(lambda: len(delivered(tmp_path)) == 5, seconds=60, what="the second study")
        assert not listens(port)  # although a worker may still live
        assert [arrival.name for arrival in spool.settled.iterdir()]
    finally:
        for process in workers_of(file):
            process.kill()


def test_one_worker_until_idle_at_a_time_and_none_that_waits(tmp_path):
    file, _ = external(tmp_path, free_port())
    with running([sys.executable, "-I", "-m", "pipeline", "--site", file, "work"], log=tmp_path / "work.log"):
        wait_until(lambda: "worker-started" in (tmp_path / "work.log").read_text(), seconds=30, what="a worker")
        began = time.monotonic()
        assert command(file, "work", "--until-idle").returncode == 0
        assert time.monotonic() - began < 20
    done = command(file, "work", "--until-idle")
    assert done.returncode == 0
    assert "worker-stopped" in done.stderr


def test_a_worker_until_idle_waits_for_what_is_due_soon(tmp_path):
    file, spool = external(tmp_path, free_port(), quiet_seconds=5)
    spool.prepare()
    incoming = spool.prepare_receiver("r")
    folder = study(incoming / f"S_{A}", A, 2)[0].parent
    hook = [sys.executable, "-I", "-S", hook_file(), incoming, folder]
    subprocess.run([*map(str, hook)], env=ENVIRONMENT, check=True)
    assert command(file, "work", "--until-idle").returncode == 0
    assert len(delivered(tmp_path)) == 2


def test_the_printed_line_can_be_typed_into_a_shell(tmp_path):
    file, _ = external(tmp_path, free_port(), hook="process-study")
    words = shlex.split(command(file, "receive", "r", "--print").stdout)
    assert words[0] == "TCP_NODELAY=1"
    hook = words[words.index("-xcs") + 1]
    assert hook.splitlines()[1] == "#p"
    assert f"/hooks/process-study {Path(sys.prefix) / 'bin/storestow'} {file} " in hook
