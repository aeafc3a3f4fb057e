"""Study mode with the real storescp: what it acknowledged is admitted, whatever happened to whom."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from support.machine.dicom_programs import (
    ENVIRONMENT,
    dcmsend,
    echoscu,
    free_port,
    program,
    running,
    storescu,
    wait_until,
)
from support.sites.receiving import (
    CT,
    ROOT,
    files_of,
    has_ended,
    kill,
    received_to_its_end,
    receiving,
    write_instance,
    write_site,
)

pytestmark = pytest.mark.programs

A, B = f"{ROOT}.10", f"{ROOT}.20"


def study(folder: Path, uid: str, count: int, first: int = 1, **more: object) -> list[Path]:
    return [write_instance(folder, first + n, study=uid, **more) for n in range(count)]


def test_a_study_becomes_one_arrival_after_the_quiet_time(tmp_path):
    files = study(tmp_path / "out", A, 5)
    with receiving(tmp_path, "study") as r:
        assert dcmsend(r.port, *files).acknowledged == 5
        assert r.wait_for(5) == [(A, f"{ROOT}.2.{n}") for n in range(1, 6)]
        (arrival,) = r.arrivals()
        nanoseconds, receiver, inode = arrival.name.split("-")
        assert abs(int(nanoseconds) / 1e9 - time.time()) < 60
        assert (receiver, int(inode)) == ("r", arrival.stat().st_ino)
        assert not list(r.incoming.iterdir())


def test_received_files_are_for_the_service_alone(tmp_path):
    with receiving(tmp_path, "study") as r:
        dcmsend(r.port, *study(tmp_path / "out", A, 1))
        r.wait_for(1)
        (file,) = files_of(r.arrivals()[0])
        assert file.stat().st_mode & 0o027 == 0
        assert file.parent.stat().st_mode & 0o027 == 0


def test_the_calling_ae_title_is_in_each_file(tmp_path):
    with receiving(tmp_path, "study") as r:
        for number, sender in enumerate(["CT ONE", "$(id)", "`;|&\"'"]):
            write_instance(tmp_path / sender[:2], number, study=f"{A}.{number}")
            assert storescu(r.port, tmp_path / sender[:2] / f"{number:05}.dcm", calling=sender).acknowledged == 1
        r.wait_for(3)
        titles = {dcmread(f).file_meta.SourceApplicationEntityTitle for a in r.arrivals() for f in files_of(a)}
        assert titles == {"CT ONE", "$(id)", "`;|&\"'"}


def test_interleaved_studies_lose_nothing(tmp_path):
    files = [
        file for n in range(4) for file in (study(tmp_path / "a", A, 1, n) + study(tmp_path / "b", B, 1, n + 100))
    ]
    with receiving(tmp_path, "study") as r:
        for file in files:
            assert storescu(r.port, file).acknowledged == 1
        expected = sorted(
            [(A, f"{ROOT}.2.{n}") for n in range(4)] + [(B, f"{ROOT}.2.{n + 100}") for n in range(4)]
        )
        assert r.wait_for(8) == expected


def test_a_study_sent_twice_is_kept_twice(tmp_path):
    files = study(tmp_path / "out", A, 3)
    with receiving(tmp_path, "study") as r:
        assert dcmsend(r.port, *files).acknowledged == 3
        assert dcmsend(r.port, *files).acknowledged == 3
        assert len(set(r.wait_for(6))) == 3


def test_late_instances_make_another_arrival(tmp_path):
    with receiving(tmp_path, "study") as r:
        dcmsend(r.port, *study(tmp_path / "early", A, 2))
        r.wait_for(2)
        dcmsend(r.port, *study(tmp_path / "late", A, 1, first=9))
        assert (A, f"{ROOT}.2.9") in r.wait_for(3)
        assert len(r.arrivals()) == 2


def test_the_same_instance_with_other_bytes_does_not_replace_the_first(tmp_path):
    one = write_instance(tmp_path / "one", 1, study=A, sop=f"{ROOT}.2.7")
    other = write_instance(tmp_path / "other", 2, study=A, sop=f"{ROOT}.2.7")
    with receiving(tmp_path, "study") as r:
        assert dcmsend(r.port, one).acknowledged == 1
        assert dcmsend(r.port, other).acknowledged == 1
        assert r.wait_for(2) == [(A, f"{ROOT}.2.7")] * 2
        pixels = {file.read_bytes()[-64:] for a in r.arrivals() for file in files_of(a)}
        assert pixels == {b"\1" * 64, b"\2" * 64}


def test_an_aborted_association_keeps_what_was_acknowledged(tmp_path):
    files = study(tmp_path / "out", A, 4)
    with receiving(tmp_path, "study") as r:
        assert storescu(r.port, *files, options=["--abort"]).acknowledged == 4
        assert len(r.wait_for(4)) == 4


def test_a_connection_cut_in_mid_object_loses_no_acknowledged_one(tmp_path):
    files = study(tmp_path / "out", A, 40, size=60_000)
    argv = [program("storescu"), "-v", "-nh", "127.0.0.1"]
    with receiving(tmp_path, "study") as r:
        sender = subprocess.Popen(
            [*argv, str(r.port), *map(str, files)],
            env={**ENVIRONMENT, "TCP_NODELAY": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wait_until(lambda: len(list(r.incoming.rglob("CT*"))) >= 3, what="some files")
        sender.kill()
        acknowledged = sender.communicate()[0].count(b"Received Store Response (Success)")
        wait_until(lambda: not list(r.incoming.iterdir()), what="the end of the study")
        assert acknowledged <= len(r.admitted()) <= acknowledged + 1


def test_storescp_killed_in_mid_study_loses_nothing_and_comes_back(tmp_path):
    with receiving(tmp_path, "study", quiet_seconds=60) as r:
        assert dcmsend(r.port, *study(tmp_path / "out", A, 3)).acknowledged == 3
        before = r.storescp()
        kill(before)
        r.wait_for(3)
        wait_until(lambda: r.storescps() and echoscu(r.port).exit_code == 0, what="a new storescp")
        assert r.storescp().pid != before.pid
        assert "receiver-restarted receiver=r" in r.text()


def test_receive_killed_in_mid_study_loses_nothing_after_a_restart(tmp_path):
    with receiving(tmp_path, "study", quiet_seconds=60) as r:
        assert dcmsend(r.port, *study(tmp_path / "one", A, 3)).acknowledged == 3
        kill(r.process)
        orphan = r.storescp()
        assert dcmsend(r.port, *study(tmp_path / "two", A, 2, first=10)).acknowledged == 2
        with receiving(tmp_path, "study", port=r.port) as again:
            assert len(again.wait_for(5)) == 5
            assert has_ended(orphan)
            assert "swept receiver=r" in again.text()


def test_stopping_admits_the_open_study_and_says_zero(tmp_path):
    with receiving(tmp_path, "study", quiet_seconds=60) as r:
        assert dcmsend(r.port, *study(tmp_path / "out", A, 3)).acknowledged == 3
        r.process.send_signal(signal.SIGTERM)
        assert r.process.wait(20) == 0
        assert len(r.admitted()) == 3
        assert not r.storescps()
        assert "receiver-stopped receiver=r" in r.text()


def test_c_echo_is_answered_and_starves_no_study(tmp_path):
    with receiving(tmp_path, "study", quiet_seconds=2) as r:
        assert dcmsend(r.port, *study(tmp_path / "out", A, 2)).acknowledged == 2
        asked = time.monotonic()
        while not r.arrivals():
            assert echoscu(r.port).exit_code == 0
            assert time.monotonic() - asked < 25, "the hook waits for ever behind C-ECHO"
            time.sleep(0.5)
        assert "flushed receiver=r" in r.text()
        assert "receiver-restarted" not in r.text()


def test_a_study_whose_hook_failed_is_taken_after_a_restart_of_storescp(tmp_path):
    with receiving(tmp_path, "study") as r:
        r.spool.arrivals.rename(r.spool.root / "elsewhere")
        assert dcmsend(r.port, *study(tmp_path / "out", A, 2)).acknowledged == 2
        wait_until(lambda: "not admitted" in r.text(), what="the hook's complaint")
        (r.spool.root / "elsewhere").rename(r.spool.arrivals)
        assert len(r.wait_for(2)) == 2
        assert "a study was not announced" in r.text()


@pytest.mark.parametrize(
    "uid", ["..", ".", "1.2.ABC", "1.2;touch${IFS}pwned", "$(touch${IFS}pwned)", "`id`", "../../escaped"]
)
def test_a_strange_study_instance_uid_loses_nothing_and_runs_nothing(tmp_path, uid):
    with receiving(tmp_path, "study") as r:
        acknowledged = storescu(r.port, *study(tmp_path / "out", uid, 2)).acknowledged
        assert acknowledged == 2
        assert [study for study, _ in r.wait_for(2)] == [uid, uid]
        assert not list(tmp_path.rglob("*pwned*")) + list(tmp_path.rglob("*escaped*"))


def test_a_study_instance_uid_of_300_characters_is_refused_and_the_next_study_is_not(tmp_path):
    with receiving(tmp_path, "study") as r:
        assert storescu(r.port, *study(tmp_path / "long", "1." * 149 + "11", 1)).acknowledged == 0
        assert storescu(r.port, *study(tmp_path / "out", A, 1)).acknowledged == 1
        assert len(r.wait_for(1)) == 1


@pytest.mark.parametrize("mode", ["study", "association"])
def test_uids_padded_with_blanks_are_acknowledged(tmp_path, mode):
    with receiving(tmp_path, mode) as r:
        files = study(tmp_path / "out", f"{ROOT}.1", 3, sop=f"{ROOT}.22", pad=b" ")
        assert storescu(r.port, *files).acknowledged == 3
        assert len(r.wait_for(3)) == 3


def test_a_storescp_script_earlier_on_the_path_is_not_used(tmp_path):
    trap = tmp_path / "bin" / "storescp"
    trap.parent.mkdir()
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/trapped\n")
    trap.chmod(0o755)
    site = write_site(tmp_path, "study", free_port())
    site.write_text("\n".join(line for line in site.read_text().splitlines() if not line.startswith("storescp =")))
    venv = Path(sys.executable).parent
    path = os.pathsep.join([str(trap.parent), str(venv), ENVIRONMENT["PATH"]])
    with running(
        [sys.executable, "-I", "-m", "pipeline", "--site", site, "receive", "r"],
        log=tmp_path / "log",
        env={**ENVIRONMENT, "PATH": path},
    ):
        wait_until(lambda: "receiver-started" in (tmp_path / "log").read_text(), what="receiver-started")
    assert not (tmp_path / "trapped").exists()


def test_a_port_in_use_is_a_configuration_error_that_names_it(tmp_path):
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        site = write_site(tmp_path, "study", port)
        done = received_to_its_end(site)
    assert done.returncode == 78
    assert f"port = {port} is in use by" in " ".join(done.stderr.split())
    assert f"process {os.getpid()}" in " ".join(done.stderr.split())


def test_a_second_receive_beside_a_running_one_is_refused(tmp_path):
    with receiving(tmp_path, "study") as r:
        done = received_to_its_end(r.site)
        assert done.returncode == 78
        assert f"already running (process {r.process.pid})" in " ".join(done.stderr.split())
        assert echoscu(r.port).exit_code == 0


def test_the_warnings_of_storescp_are_logged_as_single_lines(tmp_path):
    with receiving(tmp_path, "study") as r:
        shutil.rmtree(r.incoming)
        assert storescu(r.port, *study(tmp_path / "out", A, 1)).acknowledged == 0
        wait_until(lambda: "program program=storescp receiver=r says=" in r.text(), what="a logged line")


def test_a_peer_that_holds_the_one_storescp_and_says_nothing_is_cut_off_and_others_go_on(tmp_path):
    shorten = "from pipeline.receiving import study_receiver\nstudy_receiver.IDLE_SECONDS = 3"
    with receiving(tmp_path, "study", shorten=shorten) as r:
        ae = AE(ae_title="IDLE")
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        idle = ae.associate("127.0.0.1", r.port)
        assert idle.send_c_store(dcmread(study(tmp_path / "out", A, 1)[0])).Status == 0
        silent = wait_until(
            lambda: re.search(r"cut off: it was silent for (\d+) s", r.text()), what="the end of its patience"
        )
        assert int(silent[1]) >= 3  # more where the machine is busy: it is looked at every second
        assert dcmsend(r.port, *study(tmp_path / "next", B, 1, first=7)).acknowledged == 1
        assert len(r.wait_for(2)) == 2
        idle.abort()


def test_a_storescp_that_cannot_start_is_a_configuration_error_after_it_has_said_why(tmp_path):
    impostor = tmp_path / "storescp"
    impostor.write_text(
        "#!/bin/sh\n[ $1 = --version ] && printf '$dcmtk: storescp v3.6.7 2022 $\\nHost type: Debian\\n' "
        "|| echo 'F: no such thing' >&2\n"
    )
    impostor.chmod(0o755)
    site = write_site(tmp_path, "study", free_port())
    site.write_text(site.read_text().replace(program("storescp"), str(impostor)))
    done = received_to_its_end(site)
    assert done.returncode == 78
    assert "F: no such thing" in done.stderr
    assert "does not start for receiver r" in " ".join(done.stderr.split())


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts the calls of a process")
def test_storescp_says_what_it_receives_in_a_few_writes_an_object(tmp_path):
    count = 50
    files = study(tmp_path / "out", A, count)
    with receiving(tmp_path, "study") as r:
        storescp = r.storescp()
        before = storescp.io_counters().write_count
        assert dcmsend(r.port, *files).acknowledged == count
        # Three messages to the receiver, two to the log of objects, and what the file and the response take; one
        # for each piece of each line were 50.
        assert storescp.io_counters().write_count - before < 15 * count
        r.wait_for(count)
