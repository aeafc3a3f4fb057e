"""Peers who knock in a way no standard knows: told so or cut soon, and nobody else is held up, in both modes."""

import socket
import struct
import threading
import time

import pytest
from support.machine.dicom_programs import echoscu, storescu, wait_until
from support.peers.association_requests import answer, context, item, rejection, request
from support.peers.raw_sender import Association, HungUp, Object, object_of
from support.sites.receiving import CT, ROOT, Reception, files_of, receiving, write_instance

from pipeline.dicom.part10 import ae_title
from pipeline.line.identify import read
from pipeline.spool.envelope import envelope_of

pytestmark = pytest.mark.programs

BLANK = b" " * 16
RELEASE = b"\5\0\0\0\0\4\0\0\0\0"


def echo_request(calling: bytes = b"CT1", called: bytes = b"STORESTOW") -> bytes:
    """Return a request for an association of C-ECHO with which nothing is wrong but what is handed in."""
    about = item(0x50, item(0x51, struct.pack(">L", 16384)) + item(0x52, b"1.2.3"))
    return request(calling, called, item(0x10, b"1.2.840.10008.3.1.1.1"), context(1, b"1.2.840.10008.1.1"), about)


@pytest.mark.parametrize(
    ("calling", "called", "reason"), [(BLANK, b"STORESTOW", 3), (b"CT1", BLANK, 7), (b"\0CT1", b"STORESTOW", 3)]
)
def test_association_mode_rejects_a_blank_ae_title_at_once(tmp_path, calling, called, reason):
    with receiving(tmp_path, "association") as r:
        assert answer(r.port, calling=calling, called=called) == rejection(1, 1, reason)
        wait_until(lambda: "refused receiver=r peer=127.0.0.1" in r.text(), what="a line")
        assert "blank" in r.text()


@pytest.mark.parametrize(("calling", "called"), [(BLANK, b"STORESTOW"), (b"CT1", BLANK)])
def test_study_mode_cuts_a_blank_ae_title_soon_and_aborts_nobody_else(tmp_path, calling, called):
    with receiving(tmp_path, "study") as r:
        took: list[float] = []

        def knock() -> None:
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", r.port), timeout=20) as peer:
                peer.sendall(echo_request(calling, called))
                assert peer.recv(1) == b""
            took.append(time.monotonic() - began)

        blank = threading.Thread(target=knock)
        blank.start()
        wait_until(lambda: "Illegal service parameter" in r.text(), what="storescp's complaint")
        assert echoscu(r.port).exit_code == 0
        blank.join()
        assert took[0] < 8
        assert "receiver-restarted" not in r.text()
        told = 'refused receiver=r peer=127.0.0.1 reason="cut off: it had no association'
        wait_until(lambda: told in r.text(), what="a line")


@pytest.mark.parametrize("kind", ["half a request", "no application context", "released but not closed"])
def test_study_mode_cuts_whoever_holds_it_without_an_association(tmp_path, kind):
    with receiving(tmp_path, "study") as r, socket.create_connection(("127.0.0.1", r.port), timeout=20) as peer:
        if kind == "half a request":
            peer.sendall(echo_request()[:50])
        elif kind == "no application context":
            peer.sendall(request(b"CT1", b"STORESTOW", context(1, b"1.2.840.10008.1.1")))
        else:
            peer.sendall(echo_request())
            assert peer.recv(1) == b"\2"
            peer.sendall(RELEASE)
        began = time.monotonic()
        assert echoscu(r.port).exit_code == 0
        assert time.monotonic() - began < 9
        assert "receiver-restarted" not in r.text()


def test_more_presentation_contexts_than_there_can_be_are_no_bug(tmp_path):
    contexts = [context(number % 256, f"1.2.3.{number}".encode()) for number in range(1, 201)]
    with receiving(tmp_path, "association") as r:
        with socket.create_connection(("127.0.0.1", r.port), timeout=20) as peer:
            peer.sendall(request(b"CT1", b"STORESTOW", *contexts))
            peer.recv(10)
        assert echoscu(r.port).exit_code == 0
        assert "bug" not in r.text()


@pytest.mark.parametrize(
    ("title", "meant"),
    [("CT1\0WAS HERE", "CT1"), ("CT1\r\n", "CT1"), ("CT1\tX", "CT1"), ("RÖNTGEN", "RÖNTGEN"), ("CT\\1", "CT\\1")],
)
def test_an_ae_title_of_a_careless_sender_is_the_same_in_both_modes(tmp_path, title, meant):
    sent = object_of(write_instance(tmp_path / "out", 1))
    titles = {}
    for mode in ("study", "association"):
        with receiving(tmp_path / mode, mode) as r:
            with Association(r.port, [sent], calling=title) as association:
                assert association.store(sent) == 0
            r.wait_for(1)
            (arrival,) = r.arrivals()
            titles[mode] = envelope_of(arrival) or read(files_of(arrival)[0])
    assert titles["study"].source_ae_title == meant
    assert titles["association"].calling_ae_title == meant


def nested(levels: int) -> bytes:
    """Return a Referenced Image Sequence in a Referenced Image Sequence, and so on."""
    begin = struct.pack("<HH2sHL", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF) + struct.pack(
        "<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF
    )
    end = struct.pack("<HHLHHL", 0xFFFE, 0xE00D, 0, 0xFFFE, 0xE0DD, 0)
    return begin * levels + end * levels


def crashing_object() -> Object:
    """Return an object that ends DCMTK's storescp where it reads it."""
    plain = b"".join(
        struct.pack("<HH2sH", tag >> 16, tag & 0xFFFF, b"UI", len(value)) + value
        for tag, value in ((0x00080016, CT.encode() + b"\0"), (0x00080018, f"{ROOT}.666".encode()))
    )
    return Object(CT, f"{ROOT}.666", "1.2.840.10008.1.2.1", plain + nested(100_000))


def knocked_out(r: Reception) -> None:
    sent = crashing_object()
    with Association(r.port, [sent], calling="CRASHER") as association:
        association.store(sent)


def test_a_storescp_that_crashes_is_back_within_a_second_and_what_it_refused_is_told(tmp_path):
    with receiving(tmp_path, "study") as r:
        for number in range(1, 5):
            with pytest.raises(HungUp):
                knocked_out(r)
            ended = time.monotonic()
            wait_until(
                lambda n=number: r.text().count("receiver-started") == n + 1, seconds=10, what="a new storescp"
            )
            assert time.monotonic() - ended < 1.5  # a second, and what a busy machine adds
        told = [line for line in r.text().splitlines() if " refused " in line]
        assert len(told) == 4
        assert f"peer=127.0.0.1 calling_ae_title=CRASHER instance={ROOT}.666 " in told[0]
        assert storescu(r.port, write_instance(tmp_path / "out", 1)).acknowledged == 1
        r.wait_for(1)


def test_what_cannot_be_written_is_told_with_study_instance_and_peer(tmp_path):
    with receiving(tmp_path, "study", quiet_seconds=60) as r:
        assert storescu(r.port, write_instance(tmp_path / "out", 1)).acknowledged == 1
        (folder,) = r.incoming.iterdir()
        folder.rename(tmp_path / "away")  # the study is still open: storescp looks for its folder in vain
        sent = object_of(write_instance(tmp_path / "out", 2))
        with Association(r.port, [sent]) as association:
            assert association.store(sent) != 0
            # Its address is asked for while it is connected: before storescp's complaint is heard.
            wait_until(lambda: "No such file or directory" in r.text(), what="storescp's complaint")
        wait_until(lambda: " refused " in r.text(), what="a line")
        (line,) = [line for line in r.text().splitlines() if " refused " in line]
        assert f"peer=127.0.0.1 calling_ae_title=SENDER study={ROOT}.1 instance={ROOT}.2.2 " in line
        assert "No such file or directory" in line


def test_both_modes_read_the_title_that_is_in_the_file(tmp_path):
    with receiving(tmp_path, "association") as r:
        assert storescu(r.port, write_instance(tmp_path / "out", 1), calling="CT 1").acknowledged == 1
        r.wait_for(1)
        (file,) = files_of(r.arrivals()[0])
        assert ae_title(file.read_bytes().partition(b"\x02\x00\x16\x00AE")[2][2:6]) == "CT 1"
