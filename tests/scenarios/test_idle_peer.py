"""Eight senders at once, one of them idle: what each mode makes of it."""

import contextlib
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from support.machine.dicom_programs import dcmsend, echoscu, wait_until
from support.sites.receiving import CT, ROOT, Reception, receiving, write_instance

pytestmark = pytest.mark.programs

SENDERS, EACH = 7, 20
SHORTER = "from pipeline.receiving import study_receiver\nstudy_receiver.IDLE_WHILE_WAITING_SECONDS = 3"
IDLE = f"{ROOT}.99"


@contextlib.contextmanager
def idle_peer(r: Reception, folder: Path) -> Iterator[None]:
    """Send one instance, and then nothing, but keep the association."""
    ae = AE(ae_title="IDLE")
    ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
    idle = ae.associate("127.0.0.1", r.port)
    assert idle.send_c_store(dcmread(write_instance(folder, 999, study=IDLE))).Status == 0
    try:
        yield
    finally:
        idle.abort()


def send_until_taken(r: Reception, files: list[Path]) -> tuple[float, int, int]:
    """Send until all is acknowledged, as a modality does; return seconds, attempts, and the last count."""
    began, attempts, acknowledged = time.monotonic(), 0, 0
    while acknowledged < len(files) and time.monotonic() - began < 60:
        attempts += 1
        acknowledged = dcmsend(r.port, *files, options=["-to", "10"]).acknowledged
        if acknowledged < len(files):
            time.sleep(0.5)
    return time.monotonic() - began, attempts, acknowledged


def comparison(folder: Path, mode: str, record_property) -> tuple[list[tuple[float, int, int]], str, set[str]]:
    studies = [
        [write_instance(folder / str(n), 100 * n + k, study=f"{ROOT}.4.{n}", size=60_000) for k in range(EACH)]
        for n in range(SENDERS)
    ]
    with receiving(folder / "site", mode, shorten=SHORTER if mode == "study" else "") as r:
        with idle_peer(r, folder / "idle"), ThreadPoolExecutor(SENDERS) as senders:
            sent = list(senders.map(lambda files: send_until_taken(r, files), studies))
        wait_until(lambda: len(set(r.admitted())) >= SENDERS * EACH + 1, what=r.text())
        seconds = sorted(one[0] for one in sent)
        told = f"{mode}: seconds {seconds[0]:.2f} to {seconds[-1]:.2f}, attempts {[one[1] for one in sent]}"
        record_property(f"table: an idle peer, {mode} mode", told)
        return sent, r.text(), {study for study, _ in r.admitted()}


def test_association_mode_does_not_notice_an_idle_peer(tmp_path, record_property):
    sent, said, studies = comparison(tmp_path, "association", record_property)
    assert [(attempts, count) for _, attempts, count in sent] == [(1, EACH)] * SENDERS
    assert "receiver-restarted" not in said
    assert len(studies) == SENDERS + 1


def test_study_mode_stands_still_until_the_idle_peer_is_cut_off_and_aborts_nobody_else(tmp_path, record_property):
    sent, said, studies = comparison(tmp_path, "study", record_property)
    assert min(seconds for seconds, _, _ in sent) > 2  # nobody was served before the idle peer was cut off
    assert [(attempts, count) for _, attempts, count in sent] == [(1, EACH)] * SENDERS
    assert 'refused receiver=r peer=127.0.0.1 reason="cut off: it was silent for' in said
    assert " 0 others waiting" not in said
    assert "receiver-restarted" not in said
    assert IDLE in studies
    assert len(studies) == SENDERS + 1


def test_where_no_peer_can_be_cut_off_storescp_is_replaced_and_nothing_is_lost(tmp_path):
    shorter = f"{SHORTER}\nstudy_receiver.cut_off = lambda *_: False"
    with receiving(tmp_path, "study", shorten=shorter) as r, idle_peer(r, tmp_path / "idle"):
        files = [write_instance(tmp_path / "out", number, study=f"{ROOT}.4") for number in range(EACH)]
        assert send_until_taken(r, files)[2] == EACH
        wait_until(lambda: len(set(r.admitted())) >= EACH + 1, what=r.text())
        assert 'receiver-restarted receiver=r reason="a peer was silent for' in r.text()


def test_a_silent_peer_nobody_waits_behind_is_let_be_for_longer(tmp_path):
    shorter = (
        "from pipeline.receiving import study_receiver as s\ns.IDLE_SECONDS, s.IDLE_WHILE_WAITING_SECONDS = 4, 1"
    )
    cut = re.compile(r"cut off: it was silent for (\d+) s, 0 others waiting")
    with receiving(tmp_path, "study", shorten=shorter) as r, idle_peer(r, tmp_path / "idle"):
        told = wait_until(lambda: cut.search(r.text()), what="the end of its patience")
        assert int(told[1]) >= 4
        assert "receiver-restarted" not in r.text()


def test_a_replaced_storescp_is_back_at_once_however_often_it_happens(tmp_path):
    shorter = (
        "from pipeline.receiving import study_receiver\n"
        "study_receiver.IDLE_SECONDS = 1\nstudy_receiver.cut_off = lambda *_: False"
    )
    with receiving(tmp_path, "study", shorten=shorter) as r:
        for number in range(1, 4):
            with idle_peer(r, tmp_path / "idle"):
                wait_until(
                    lambda n=number: r.text().count("receiver-started") == n + 1, seconds=10, what="a new one"
                )
        assert echoscu(r.port).exit_code == 0
