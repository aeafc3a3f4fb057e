"""Association mode with the real storescp: parallel, exact about the sender, and nothing lost."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
from pydicom import dcmread
from pynetdicom import AE
from support.machine.dicom_programs import ENVIRONMENT, dcmsend, echoscu, program, storescp, storescu, wait_until
from support.sites.receiving import (
    CT,
    ROOT,
    Reception,
    files_of,
    has_ended,
    kill,
    receiving,
    write_instance,
)

from pipeline.receiving import is_receiving, sweep_abandoned

pytestmark = pytest.mark.programs
waits = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has splice(2)")

A, B = f"{ROOT}.10", f"{ROOT}.20"


def study(folder: Path, uid: str, count: int, first: int = 1, **more: object) -> list[Path]:
    return [write_instance(folder, first + n, study=uid, **more) for n in range(count)]


def envelopes(r: Reception) -> list[dict[str, object]]:
    return [json.loads((arrival / ".envelope.json").read_bytes()) for arrival in r.arrivals()]


def test_an_association_becomes_one_arrival_when_it_ends(tmp_path):
    with receiving(tmp_path, "association") as r:
        assert dcmsend(r.port, *study(tmp_path / "out", A, 5)).acknowledged == 5
        assert r.wait_for(5, seconds=5) == [(A, f"{ROOT}.2.{n}") for n in range(1, 6)]
        assert len(r.arrivals()) == 1
        assert not list(r.incoming.iterdir())


def test_the_envelope_tells_the_sender_as_the_association_did(tmp_path):
    with receiving(tmp_path, "association") as r:
        assert (
            storescu(r.port, *study(tmp_path / "out", A, 1), calling="CT 1", called="ELSEWHERE").acknowledged == 1
        )
        r.wait_for(1)
        (envelope,) = envelopes(r)
        opened = envelope.pop("opened_at_ns")
        assert envelope == {
            "calling_ae_title": "CT 1",
            "called_ae_title": "ELSEWHERE",
            "peer": "127.0.0.1",
            "receiver": "r",
        }
        assert abs(opened / 1e9 - time.time()) < 60


def test_received_files_are_for_the_service_alone(tmp_path):
    with receiving(tmp_path, "association") as r:
        dcmsend(r.port, *study(tmp_path / "out", A, 1))
        r.wait_for(1)
        (arrival,) = r.arrivals()
        assert all(path.stat().st_mode & 0o027 == 0 for path in [arrival, *arrival.iterdir()])


def test_bytes_are_kept_as_they_were_sent(tmp_path):
    (sent,) = study(tmp_path / "out", A, 1, size=1000)
    with receiving(tmp_path, "association") as r:
        assert storescu(r.port, sent).acknowledged == 1
        r.wait_for(1)
        (kept,) = files_of(r.arrivals()[0])
        data_set = sent.read_bytes().split(b"CS\x02\x00CT", 1)[1]
        assert kept.read_bytes().split(b"CS\x02\x00CT", 1)[1] == data_set


def test_the_short_dictionary_leaves_every_byte_as_dcmtks_own_does(tmp_path):
    """Send the same object to a storescp with its own dictionary; both files are equal, file meta included."""
    (file,) = study(tmp_path / "out", A, 1)
    with storescp(tmp_path / "plain", "+B", "-aet", "STORESTOW") as port:
        assert dcmsend(port, file).acknowledged == 1
    with receiving(tmp_path, "association") as r:
        assert dcmsend(r.port, file).acknowledged == 1
        r.wait_for(1)
        (there,) = files_of(r.arrivals()[0])
        assert list(r.spool.run.glob("*.commands.dic"))
        assert there.read_bytes() == next((tmp_path / "plain").iterdir()).read_bytes()


def test_four_senders_are_served_side_by_side(tmp_path):
    studies = [study(tmp_path / str(n), f"{ROOT}.4.{n}", 20, first=100 * n, size=60_000) for n in range(4)]
    with receiving(tmp_path, "association") as r:
        with socket.create_connection(("127.0.0.1", r.port)):  # a fifth says nothing and holds nobody up
            with ThreadPoolExecutor(4) as senders:
                sent = list(senders.map(lambda files: dcmsend(r.port, *files).acknowledged, studies))
            assert sent == [20, 20, 20, 20]
            assert len(set(r.wait_for(80))) == 80
        assert len(r.arrivals()) == 4


def test_an_open_association_does_not_hold_up_another(tmp_path):
    with receiving(tmp_path, "association") as r:
        ae = AE(ae_title="IDLE")
        ae.add_requested_context("1.2.840.10008.1.1")
        idle = ae.associate("127.0.0.1", r.port)
        assert idle.is_established
        try:
            assert dcmsend(r.port, *study(tmp_path / "out", A, 2)).acknowledged == 2
            r.wait_for(2, seconds=5)
            assert idle.send_c_echo().Status == 0
        finally:
            idle.release()


def test_interleaved_studies_in_one_association_lose_nothing(tmp_path):
    files = [
        file for n in range(5) for file in (study(tmp_path / "a", A, 1, n) + study(tmp_path / "b", B, 1, n + 100))
    ]
    with receiving(tmp_path, "association") as r:
        assert storescu(r.port, *files).acknowledged == 10
        expected = sorted(
            [(A, f"{ROOT}.2.{n}") for n in range(5)] + [(B, f"{ROOT}.2.{n + 100}") for n in range(5)]
        )
        assert r.wait_for(10) == expected


def test_the_same_instance_with_other_bytes_in_one_association_does_not_replace_the_first(tmp_path):
    one = write_instance(tmp_path / "one", 1, study=A, sop=f"{ROOT}.2.7")
    other = write_instance(tmp_path / "other", 2, study=A, sop=f"{ROOT}.2.7")
    with receiving(tmp_path, "association") as r:
        assert storescu(r.port, one, other).acknowledged == 2
        r.wait_for(2)
        assert {file.read_bytes()[-64:] for file in files_of(r.arrivals()[0])} == {b"\1" * 64, b"\2" * 64}


def test_an_aborted_association_keeps_what_was_acknowledged(tmp_path):
    with receiving(tmp_path, "association") as r:
        assert storescu(r.port, *study(tmp_path / "out", A, 4), options=["--abort"]).acknowledged == 4
        assert len(r.wait_for(4)) == 4


def test_a_sender_killed_in_mid_study_loses_no_acknowledged_instance(tmp_path):
    files = study(tmp_path / "out", A, 40, size=60_000)
    with receiving(tmp_path, "association") as r:
        sender = subprocess.Popen(
            [program("storescu"), "-v", "-nh", "127.0.0.1", str(r.port), *map(str, files)],
            env={**ENVIRONMENT, "TCP_NODELAY": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        wait_until(lambda: len(list(r.incoming.rglob("CT*"))) >= 3, what="some files")
        sender.kill()
        acknowledged = sender.communicate()[0].count(b"Received Store Response (Success)")
        wait_until(lambda: not list(r.incoming.iterdir()), what="the end of the association")
        whole = [f for f in files_of(r.arrivals()[0]) if f.stat().st_size >= files[0].stat().st_size - 400]
        assert acknowledged <= len(whole)


def slow_sender(r: Reception, files: list[Path]) -> subprocess.Popen[bytes]:
    """Start sending with Nagle's algorithm on, some 40 ms an instance."""
    return subprocess.Popen(
        [program("storescu"), "-v", "-nh", "127.0.0.1", str(r.port), *map(str, files)],
        env={**ENVIRONMENT, "TCP_NODELAY": "0"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def acknowledged_by(sender: subprocess.Popen[bytes]) -> int:
    return sender.communicate(timeout=60)[0].count(b"Received Store Response (Success)")


def test_storescp_killed_in_mid_study_loses_nothing_acknowledged(tmp_path):
    with receiving(tmp_path, "association") as r:
        sender = slow_sender(r, study(tmp_path / "out", A, 60))
        wait_until(lambda: len(list(r.incoming.rglob("CT*"))) >= 5, what="some files")
        kill(r.storescp())
        acknowledged = acknowledged_by(sender)
        assert 5 <= acknowledged < 60
        wait_until(lambda: not list(r.incoming.iterdir()), what="the admission")
        assert acknowledged <= len(r.admitted()) <= acknowledged + 1
        assert echoscu(r.port).exit_code == 0


def test_receive_killed_in_mid_study_loses_nothing_after_a_restart(tmp_path):
    with receiving(tmp_path, "association") as r:
        sender = slow_sender(r, study(tmp_path / "out", A, 200))
        wait_until(lambda: len(list(r.incoming.rglob("CT*"))) >= 5, what="some files")
        orphan = r.storescp()
        kill(r.process)
        assert is_receiving(r.spool, "r")
        assert sweep_abandoned(r.spool, "r") == []  # the orphan still writes there
        with receiving(tmp_path, "association", port=r.port) as again:
            acknowledged = acknowledged_by(sender)
            assert has_ended(orphan)
            assert 5 <= acknowledged < 200
            assert acknowledged <= len(again.admitted()) <= acknowledged + 1
            assert "swept receiver=r" in again.text()
            assert dcmsend(again.port, *study(tmp_path / "more", B, 1, first=500)).acknowledged == 1


def test_stopping_lets_a_running_association_finish(tmp_path):
    with receiving(tmp_path, "association") as r:
        sender = slow_sender(r, study(tmp_path / "out", A, 40))
        wait_until(lambda: len(list(r.incoming.rglob("CT*"))) >= 5, what="some files")
        r.process.send_signal(signal.SIGTERM)
        assert acknowledged_by(sender) == 40
        assert r.process.wait(20) == 0
        assert len(r.admitted()) == 40
        assert not r.storescps()


def test_stopping_ends_an_association_that_does_not_finish_and_admits_it(tmp_path):
    with receiving(tmp_path, "association") as r:
        ae = AE(ae_title="STAYS")
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        stays = ae.associate("127.0.0.1", r.port)
        assert stays.send_c_store(dcmread(study(tmp_path / "out", A, 1)[0])).Status == 0
        asked = time.monotonic()
        r.process.send_signal(signal.SIGTERM)
        assert r.process.wait(25) == 0
        assert 9 < time.monotonic() - asked < 20
        assert len(r.admitted()) == 1
        assert not r.storescps()
        stays.abort()


@contextlib.contextmanager
def with_one_waiting(folder: Path, **more: str) -> Iterator[tuple[Reception, psutil.Process]]:
    """Run a receiver that has served an association, and the storescp that it started for the next one."""
    with receiving(folder, "association", **more) as r:
        assert echoscu(r.port).exit_code == 0
        wait_until(lambda: not list(r.incoming.iterdir()) and r.storescps(), what="a storescp that waits")
        yield r, r.storescp()


@waits
def test_a_storescp_that_was_started_ahead_serves_the_next_association(tmp_path):
    files = study(tmp_path / "out", A, 3, size=60_000)
    with with_one_waiting(tmp_path) as (r, waiting):
        ae = AE(ae_title="NEXT")
        ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
        association = ae.associate("127.0.0.1", r.port)
        assert r.storescp() == waiting
        assert [association.send_c_store(dcmread(file)).Status for file in files] == [0, 0, 0]
        association.release()
        r.wait_for(3)
        pixels = {file.read_bytes()[-60_000:] for file in files_of(r.arrivals()[0])}
        assert pixels == {file.read_bytes()[-60_000:] for file in files}
        (envelope,) = envelopes(r)
        assert envelope["calling_ae_title"] == "NEXT"
        assert envelope["peer"] == "127.0.0.1"


@waits
def test_an_association_aborted_at_a_storescp_started_ahead_keeps_what_was_acknowledged(tmp_path):
    with with_one_waiting(tmp_path) as (r, _):
        assert storescu(r.port, *study(tmp_path / "out", A, 4), options=["--abort"]).acknowledged == 4
        assert len(r.wait_for(4)) == 4


@waits
def test_a_sender_killed_at_a_storescp_started_ahead_loses_no_acknowledged_instance(tmp_path):
    with with_one_waiting(tmp_path) as (r, _):
        sender = slow_sender(r, study(tmp_path / "out", A, 60))
        wait_until(lambda: len(list(r.incoming.rglob("CT*"))) >= 3, what="some files")
        sender.kill()
        acknowledged = sender.communicate()[0].count(b"Received Store Response (Success)")
        wait_until(lambda: not list(r.incoming.iterdir()), what="the end of the association")
        assert acknowledged <= len(r.admitted())


@waits
def test_a_storescp_started_ahead_that_was_killed_is_not_given_an_association(tmp_path):
    with with_one_waiting(tmp_path) as (r, waiting):
        waiting.kill()
        wait_until(lambda: has_ended(waiting), what="its end")
        assert dcmsend(r.port, *study(tmp_path / "out", A, 2)).acknowledged == 2
        r.wait_for(2)


@waits
def test_a_storescp_started_ahead_ends_with_its_receiver(tmp_path):
    with with_one_waiting(tmp_path) as (r, waiting):
        kill(r.process)
        wait_until(lambda: has_ended(waiting), what="its end")
    with with_one_waiting(tmp_path / "again") as (r, _):
        r.process.send_signal(signal.SIGTERM)
        assert r.process.wait(20) == 0
        assert not r.storescps()


@waits
def test_a_storescp_started_ahead_ends_when_no_association_comes(tmp_path):
    shorten = (
        "from pipeline.receiving import association_receiver, storescp_start\n"
        "association_receiver.LOOK_SECONDS, storescp_start.WAITING_SECONDS = 0.2, 1.0"
    )
    with with_one_waiting(tmp_path, shorten=shorten) as (r, waiting):
        wait_until(lambda: has_ended(waiting), what="its end")
        assert echoscu(r.port).exit_code == 0
