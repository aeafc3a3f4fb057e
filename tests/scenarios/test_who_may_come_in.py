"""A receiver in association mode turns peers away in the standard's words, before a storescp is started."""

import contextlib
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydicom import dcmread
from pynetdicom import AE
from support.machine.dicom_programs import echoscu, storescu, wait_until
from support.peers.association_requests import answer, rejection
from support.sites.receiving import CT, ROOT, Reception, receiving, write_instance

pytestmark = pytest.mark.programs

A = f"{ROOT}.10"


@contextlib.contextmanager
def association(r: Reception, calling: str = "CT1") -> Iterator[AE]:
    ae = AE(ae_title=calling)
    ae.add_requested_context(CT, "1.2.840.10008.1.2.1")
    opened = ae.associate("127.0.0.1", r.port)
    assert opened.is_established
    try:
        yield opened
    finally:
        opened.abort()


def test_ae_titles_that_are_not_allowed_are_rejected_for_good_and_no_storescp_is_started(tmp_path):
    more = 'allow_calling_ae_titles = ["CT*"]\nallow_called_ae_titles = ["STORESTOW"]'
    with receiving(tmp_path, "association", more=more) as r:
        assert answer(r.port, calling=b"MR1") == rejection(1, 1, 3)
        assert answer(r.port, called=b"ELSEWHERE") == rejection(1, 1, 7)
        assert echoscu(r.port, calling="CT7").exit_code == 0
        wait_until(lambda: r.text().count("refused receiver=r peer=127.0.0.1") == 2, what="two lines")
        assert "calling AE title MR1 is not in allow_calling_ae_titles" in r.text()
        assert "storescp" not in re.sub(r"receiver-started.*", "", r.text())
        assert not r.arrivals()


def test_dcmtk_understands_the_rejection(tmp_path):
    with receiving(tmp_path, "association", more='allow_calling_ae_titles = ["MR"]') as r:
        said = storescu(r.port, write_instance(tmp_path / "out", 1), calling="CT1")
        assert "Calling AE Title Not Recognized" in said.output
        assert said.acknowledged == 0


def test_an_address_that_is_not_allowed_is_hung_up_on_before_anything_is_read(tmp_path):
    with receiving(tmp_path, "association", more='allow_peers = ["192.0.2.0/24"]') as r:
        assert answer(r.port) == b""
        wait_until(lambda: "its address is not in allow_peers" in r.text(), what="a line")
    with receiving(tmp_path, "association", port=r.port, more='allow_peers = ["127.0.0.1"]') as r:
        assert echoscu(r.port).exit_code == 0


def test_more_associations_than_allowed_are_rejected_for_now_and_served_when_one_has_left(tmp_path):
    with receiving(tmp_path, "association", more="max_associations = 2") as r:
        with association(r), association(r):
            assert answer(r.port) == rejection(2, 3, 1)
        wait_until(lambda: echoscu(r.port).exit_code == 0, what="a free seat")


def test_one_peer_may_not_take_more_than_its_share(tmp_path):
    with receiving(tmp_path, "association", more="max_associations_per_peer = 1") as r:
        with association(r) as first:
            assert answer(r.port) == rejection(2, 3, 2)
            assert first.send_c_store(dcmread(write_instance(tmp_path / "out", 1, study=A))).Status == 0
        r.wait_for(1)


def test_peers_that_connect_and_say_nothing_take_no_seat(tmp_path):
    with receiving(tmp_path, "association", more="max_associations = 1") as r, contextlib.ExitStack() as silent:
        for _ in range(40):
            silent.enter_context(socket.create_connection(("127.0.0.1", r.port), timeout=10))
        wait_until(lambda: r.text().count("its request is not read") == 40 - 17, what="a full door")
        assert not r.storescps()


def test_who_speaks_is_served_beside_those_who_say_nothing(tmp_path):
    with receiving(tmp_path, "association", more="max_associations = 1") as r, contextlib.ExitStack() as silent:
        for _ in range(10):
            silent.enter_context(socket.create_connection(("127.0.0.1", r.port), timeout=10))
        assert echoscu(r.port).exit_code == 0


@pytest.mark.parametrize(
    ("key", "word"),
    [('idle_timeout = "2s"', "idle_timeout"), ('association_timeout = "2s"', "association_timeout")],
)
def test_an_association_that_stays_too_long_is_ended_and_what_it_brought_is_kept(tmp_path, key, word):
    with receiving(tmp_path, "association", more=key) as r, association(r) as stays:
        assert stays.send_c_store(dcmread(write_instance(tmp_path / "out", 1, study=A))).Status == 0
        r.wait_for(1, seconds=15)
        assert f"({word})" in r.text()


def files(folder: Path, count: int) -> list[Path]:
    return [write_instance(folder, number, study=A) for number in range(count)]


def test_an_association_timeout_cuts_even_a_busy_sender_and_loses_nothing_acknowledged(tmp_path):
    with receiving(tmp_path, "association", more='association_timeout = "3s"') as r, association(r) as busy:
        acknowledged = 0
        for file in files(tmp_path / "out", 500):
            status = busy.send_c_store(dcmread(file)) if busy.is_established else None
            if status is None or "Status" not in status:
                break
            acknowledged += 1
            time.sleep(0.01)
        assert 1 <= acknowledged < 500
        wait_until(lambda: not list(r.incoming.iterdir()), what="the admission")
        (arrival,) = r.arrivals()
        whole = [file for file in arrival.iterdir() if file.stat().st_size > 400]  # the last may have been cut
        assert acknowledged <= len(whole) <= acknowledged + 1
        assert "was open for 3 s (association_timeout)" in r.text()
