"""What a peer that cannot be asked is sent when the worker is killed half-way: what is missing, and one twice."""

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from support.crash.moments import point_of
from support.machine.dicom_programs import ENVIRONMENT, free_port, stop, wait_until
from support.peers.storage_peer import TABLE, storage_peer
from support.sites.line_site import arrive, instance
from support.sites.running_site import write_site

from pipeline.cstore.send_instances import MOST_AHEAD
from pipeline.ledger import FILE_NAME, Ledger, reports
from pipeline.spool.spool import Spool

WORKER = """
import itertools, os, signal, sys
from pipeline import crash_points
from pipeline.commands import cli
point, count = sys.argv[1], int(sys.argv[2])
reaches = itertools.count(1)
def observe(name):
    if name == point and next(reaches) == count:
        os.kill(os.getpid(), signal.SIGKILL)
crash_points.observer = observe
sys.argv = ["storestow", *sys.argv[3:]]
cli.main()
"""
COUNT = MOST_AHEAD + 8  # two batches


def work(file: Path, *, point: str = "no such point", count: int = 1, log: Path) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-I", "-c", WORKER, point_of(point), str(count), "--site", str(file), "work"]
    with log.open("ab") as output:
        return subprocess.Popen(
            argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )


def delivered(spool: Spool) -> dict[str, int]:
    ledger = Ledger(spool.root / FILE_NAME)
    try:
        with ledger.reading() as look:
            return {state: count for state, count in reports.counts(look)["deliveries"].items() if count}
    finally:
        ledger.close()


@pytest.mark.programs
@pytest.mark.parametrize(
    ("point", "count", "twice"),
    [
        ("deliver-receipt", 20, 1),  # the twentieth is stored there, and not written down here
        ("deliver-receipt", MOST_AHEAD + 3, 1),
        ("deliver-attempt", 2, 0),  # the second batch is announced, nothing of it has left
        ("attempted", 1, 0),  # everything is answered and written, nothing concluded
    ],
)
def test_a_worker_killed_half_way_sends_what_is_missing_and_at_most_one_instance_twice(
    tmp_path, point, count, twice
):
    sent = tmp_path / "sent"
    sent.mkdir()
    files = [
        instance(sent, f"{n}", StudyInstanceUID="1.2.3.4", SeriesInstanceUID="1.2.3.4.1") for n in range(COUNT)
    ]
    with storage_peer() as peer:
        table = {**TABLE, "port": peer.port, "response_timeout": "20s", "associate_timeout": "20s"}
        receiver = {"name": "modalities", "ae_title": "STORESTOW", "port": free_port(), "quiet_seconds": 1}
        file = write_site(tmp_path, receivers=[receiver], destinations=[table], site={"workers": 1})
        spool = Spool(tmp_path / "spool")
        spool.prepare()
        arrive(spool, *files)
        log = tmp_path / "work.log"
        assert work(file, point=point, count=count, log=log).wait(60) == -signal.SIGKILL, log.read_text()
        assert (
            len(peer.uids) == {"deliver-receipt": count, "deliver-attempt": MOST_AHEAD, "attempted": COUNT}[point]
        )
        again = work(file, log=log)
        try:
            wait_until(lambda: delivered(spool) == {"delivered": 1}, seconds=60, what=str(log))
        finally:
            stop(again)
    times = Counter(peer.uids)
    assert len(times) == COUNT
    assert sorted(times.values()) == [1] * (COUNT - twice) + [2] * twice
    bytes_of = {uid: {one.data for one in peer.received if one.uid == uid} for uid in times}
    assert all(len(different) == 1 for different in bytes_of.values())
