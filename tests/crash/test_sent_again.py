"""When the archive of these tests says that an instance was sent again without need."""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from support.machine.dicom_programs import wait_until
from support.peers import fake_dcm4chee
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.studies.small_studies import make_study

from pipeline.dicomweb.multipart import Body
from pipeline.model import Item


@pytest.fixture
def archive() -> Iterator[FakeDcm4chee]:
    with FakeDcm4chee() as running:
        yield running


@pytest.fixture
def item(tmp_path: Path) -> Item:
    return make_study(tmp_path, 1)[0]


class Sending:
    """A POST with one instance that is sent in two halves, on a connection of its own or on that of another."""

    def __init__(self, archive: FakeDcm4chee, item: Item) -> None:
        self.archive = archive
        self.connection = socket.socket()
        self.connection.settimeout(20)
        self.connection.bind(("127.0.0.1", 0))
        self.port: int = self.connection.getsockname()[1]
        body = Body([item], "b")
        content = b"".join(bytes(block) for block in body)
        head = f"POST {urlsplit(archive.url).path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(content)}\r\n"
        request = f"{head}Content-Type: {body.content_type}\r\n\r\n".encode() + content
        self.halves = request[: -len(content) // 2], request[-len(content) // 2 :]

    def connect(self) -> None:
        self.connection.connect(("127.0.0.1", self.archive.port))

    def begin(self) -> None:
        self.connection.sendall(self.halves[0])

    def end(self) -> None:
        """Let the archive take it in, and see it do so."""
        before = len(self.archive.received)
        self.connection.sendall(self.halves[1])
        wait_until(lambda: len(self.archive.received) > before)
        self.connection.recv(1 << 16)


@contextmanager
def sendings(archive: FakeDcm4chee, item: Item, count: int) -> Iterator[list[Sending]]:
    with ExitStack() as stack:
        those = [Sending(archive, item) for _ in range(count)]
        for one in those:
            stack.enter_context(one.connection)
        yield those


def begun(one: Sending) -> Sending:
    """Begin, and see the archive begin to read."""
    before = len(one.archive.requests)
    one.connect()
    one.begin()
    wait_until(lambda: len(one.archive.requests) > before)
    return one


def ask(archive: FakeDcm4chee, item: Item, *, by_study: bool = False) -> bool:
    study = f"{archive.url}/{item.key.study_instance_uid}/instances"
    only = {} if by_study else {"SOPInstanceUID": item.key.sop_instance_uid}
    return requests.get(study, params=only, timeout=20).status_code == 200


@contextmanager
def not_reading(monkeypatch: pytest.MonkeyPatch, port: int, *, after: int = 0) -> Iterator[None]:
    """Let the archive read only so many requests from the connection of this port until the block ends."""
    go_on = threading.Event()
    read = fake_dcm4chee._Handler.handle_one_request
    left = iter(range(after))

    def held(handler: fake_dcm4chee._Handler) -> None:
        if handler.client_address[1] == port and next(left, None) is None:
            go_on.wait(20)
        read(handler)

    monkeypatch.setattr(fake_dcm4chee._Handler, "handle_one_request", held)
    try:
        yield
    finally:
        go_on.set()


@pytest.mark.parametrize("by_study", [False, True])
def test_what_was_missing_when_it_was_asked_for_is_rightly_sent_again(archive, item, by_study):
    with sendings(archive, item, 2) as (first, second):
        begun(first)
        assert not ask(archive, item, by_study=by_study)
        first.end()
        begun(second).end()
    assert archive.duplicates == []


def test_a_question_after_the_second_sending_began_does_not_make_it_wrong(archive, item):
    with sendings(archive, item, 2) as (first, second):
        begun(first)
        assert not ask(archive, item)
        begun(second)
        first.end()
        assert ask(archive, item)  # the second was cut for who sent it, and the archive is still reading it
        second.end()
    assert archive.duplicates == []


def test_a_sending_the_archive_had_not_begun_to_read_when_it_was_asked_counts_as_begun(archive, item, monkeypatch):
    with sendings(archive, item, 2) as (first, second):
        with not_reading(monkeypatch, first.port):
            first.connect()
            first.begin()
            assert not ask(archive, item)
        first.end()
        begun(second).end()
    assert archive.duplicates == []


def test_a_second_request_on_a_connection_counts_as_begun_before_it_is_read(archive, item, monkeypatch):
    with sendings(archive, item, 2) as (first, second):
        with not_reading(monkeypatch, first.port, after=1):
            first.connect()
            first.connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert first.connection.recv(1 << 16).startswith(b"HTTP/1.1 404")
            first.begin()
            assert not ask(archive, item)
        first.end()
        begun(second).end()
    assert archive.duplicates == []


@pytest.mark.parametrize("by_study", [False, True])
def test_what_was_there_when_it_was_asked_for_is_sent_again_without_need(archive, item, by_study):
    with sendings(archive, item, 2) as (first, second):
        begun(first).end()
        assert ask(archive, item, by_study=by_study)
        begun(second).end()
    assert archive.duplicates == [item.key.sop_instance_uid]


def test_a_question_before_the_first_sending_permits_no_second(archive, item):
    assert not ask(archive, item)
    with sendings(archive, item, 2) as (first, second):
        begun(first)
        begun(second)
        first.end()
        second.end()
    assert archive.duplicates == [item.key.sop_instance_uid]


def test_one_answer_permits_one_sending(archive, item):
    with sendings(archive, item, 3) as (first, second, third):
        begun(first)
        assert not ask(archive, item)
        begun(second)
        begun(third)
        for one in (first, second, third):
            one.end()
    assert archive.duplicates == [item.key.sop_instance_uid]


def test_an_earlier_answer_does_not_outweigh_that_it_is_there(archive, item):
    with sendings(archive, item, 2) as (first, second):
        begun(first)
        assert not ask(archive, item)
        first.end()
        assert ask(archive, item)
        begun(second).end()
    assert archive.duplicates == [item.key.sop_instance_uid]


def test_what_somebody_else_had_sent_is_sent_without_need(archive, item):
    archive.add(item.key.study_instance_uid, item.key.series_instance_uid, item.key.sop_instance_uid)
    with sendings(archive, item, 1) as (only,):
        begun(only).end()
    assert archive.duplicates == [item.key.sop_instance_uid]
