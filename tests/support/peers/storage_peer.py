"""A C-STORE peer that does as it is told, well or badly; what it reads is taken apart by pynetdicom."""

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydicom
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pynetdicom.dimse_messages import DIMSEMessage
from pynetdicom.pdu import A_ASSOCIATE_RQ, P_DATA_TF
from support.studies.small_studies import Attempts, consign, last_of, pinned

from pipeline.destinations import Destination, from_table
from pipeline.dicom.walk import walk
from pipeline.errors import StorestowError
from pipeline.model import InstanceKey, Item

RELEASE_RP = struct.pack(">BxL4x", 6, 4)


@dataclass(frozen=True)
class Received:
    """One C-STORE or C-ECHO request: `number` counts those of the peer, `association` its associations, from 1."""

    number: int
    association: int
    context: int
    abstract_syntax: str
    transfer_syntax: str
    command: object
    data: bytes

    @property
    def uid(self) -> str:
        return str(self.command.get("AffectedSOPInstanceUID", ""))


@dataclass(frozen=True)
class Answer:
    """A response, made wrong where a field is given."""

    status: int = 0
    message: int | None = None
    uid: str | None = None
    context: int | None = None
    command: int | None = None
    more: bytes = b""  # elements of the command set


class Abort:
    """End by an A-ABORT of the service-provider, for this reason; of the service-user without one."""

    def __init__(self, reason: int | None = None) -> None:
        self.pdu = struct.pack(">BxLxxBB", 7, 4, 0 if reason is None else 2, reason or 0)


class Release:
    """Ask for release instead of answering."""


class Close:
    """Close the connection without a word."""


class Silence:
    """Say nothing for the rest of the test."""


class Trickle:
    """Begin an answer and add a byte to it now and then."""


@dataclass(frozen=True)
class Words:
    """Say these very bytes."""

    data: bytes


def rejection(result: int, source: int, reason: int) -> Words:
    """Return an A-ASSOCIATE-RJ."""
    return Words(struct.pack(">BxLxBBB", 3, 4, result, source, reason))


def accept_all(_abstract: str, syntaxes: list[str]) -> tuple[int, str]:
    return 0, syntaxes[0]


def succeed(_received: Received) -> object:
    return 0


@dataclass
class StoragePeer:
    """`greet` answers a connection (None: negotiate), `accept` a context, `answer` a request."""

    answer: Callable[[Received], object] = succeed
    accept: Callable[[str, list[str]], tuple[int, str]] = accept_all
    greet: Callable[[int], object] = lambda _number: None
    longest_pdu: int = 16384
    port: int = 0
    requests: list[A_ASSOCIATE_RQ] = field(default_factory=list)
    received: list[Received] = field(default_factory=list)
    aborted: int = 0
    released: int = 0

    @property
    def uids(self) -> list[str]:
        return [one.uid for one in self.received]

    @property
    def proposals(self) -> list[list[tuple[str, list[str]]]]:
        """Return what was proposed in each association: abstract syntax, transfer syntaxes."""
        return [
            [(str(c.abstract_syntax), [str(s) for s in c.transfer_syntax]) for c in request.presentation_context]
            for request in self.requests
        ]

    def serve(self, connection: socket.socket, number: int, over: threading.Event) -> None:
        with connection, suppress(OSError, EOFError):
            greeting = self.greet(number)
            request = A_ASSOCIATE_RQ()
            request.decode(self._pdu(connection))
            self.requests.append(request)
            if greeting is not None:
                return self._say(connection, greeting, over)
            contexts = self._negotiate(connection, request)
            while True:
                message, context = DIMSEMessage(), 0
                odd = "a fragment of odd length"
                done = False
                while not done:
                    pdu = self._pdu(connection)
                    if pdu[0] == 5:
                        self.released += 1
                        return connection.sendall(RELEASE_RP)
                    if pdu[0] == 7:
                        self.aborted += 1
                        return None
                    data = P_DATA_TF()
                    data.decode(pdu)
                    primitive = data.to_primitive()
                    context, value = primitive.presentation_data_value_list[0]
                    assert len(value) % 2, odd  # with its control header of one byte
                    done = message.decode_msg(primitive)
                abstract, syntax = contexts[context]
                one = Received(
                    len(self.received) + 1,
                    number,
                    context,
                    abstract,
                    syntax,
                    message.command_set,
                    message.data_set.getvalue(),
                )
                self.received.append(one)
                said = self.answer(one)
                if isinstance(said, (int, Answer)):
                    connection.sendall(_response(one, Answer(said) if isinstance(said, int) else said))
                else:
                    return self._say(connection, said, over)

    def _negotiate(self, connection: socket.socket, request: A_ASSOCIATE_RQ) -> dict[int, tuple[str, str]]:
        contexts, items = {}, []
        for proposed in request.presentation_context:
            abstract, syntaxes = str(proposed.abstract_syntax), [str(s) for s in proposed.transfer_syntax]
            result, syntax = self.accept(abstract, syntaxes)
            contexts[proposed.context_id] = abstract, syntax
            items.append(_item(0x21, bytes((proposed.context_id, 0, result, 0)) + _item(0x40, syntax.encode())))
        user = _item(0x50, _item(0x51, struct.pack(">L", self.longest_pdu)) + _item(0x52, b"1.2.3"))
        body = struct.pack(">H2x", 1) + b"A" * 16 + b"B" * 16 + bytes(32)
        body += _item(0x10, b"1.2.840.10008.3.1.1.1") + b"".join(items) + user
        connection.sendall(struct.pack(">BxL", 2, len(body)) + body)
        return contexts

    def _say(self, connection: socket.socket, said: object, over: threading.Event) -> None:
        if isinstance(said, Abort):
            connection.sendall(said.pdu)
        elif isinstance(said, Words):
            connection.sendall(said.data)
        elif isinstance(said, Release):
            connection.sendall(struct.pack(">BxL4x", 5, 4))
        elif isinstance(said, Trickle):
            connection.sendall(struct.pack(">BxL", 4, 10_000))
            while not over.wait(0.2):
                connection.sendall(b"\0")
        elif isinstance(said, Silence):
            over.wait(30)
        if not isinstance(said, (Close, Silence)):
            connection.settimeout(2)
            with suppress(OSError):
                while connection.recv(1 << 16):  # so that our words arrive before the connection ends
                    pass

    def _pdu(self, connection: socket.socket) -> bytes:
        header = _exactly(connection, 6)
        length = struct.unpack(">L", header[2:])[0]
        assert length <= max(self.longest_pdu or 1 << 20, 1 << 17) or header[0] == 1, (
            "a PDU is longer than allowed"
        )
        if header[0] == 4 and self.longest_pdu:
            assert length <= self.longest_pdu, "a PDU is longer than the peer takes"
        return header + _exactly(connection, length)


def _exactly(connection: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        piece = connection.recv(count - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _item(kind: int, content: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(content)) + content


def _response(one: Received, answer: Answer) -> bytes:
    message = one.command.MessageID if answer.message is None else answer.message
    uid = (one.uid if answer.uid is None else answer.uid).encode()
    uid += b"\0" * (len(uid) % 2)
    command = one.command.CommandField | 0x8000 if answer.command is None else answer.command
    elements = b"".join(
        struct.pack("<HHL", 0, number, len(value)) + value
        for number, value in (
            (0x0100, struct.pack("<H", command)),
            (0x0120, struct.pack("<H", message)),
            (0x0800, struct.pack("<H", 0x0101)),
            (0x0900, struct.pack("<H", answer.status)),
        )
    )
    elements += answer.more + (struct.pack("<HHL", 0, 0x1000, len(uid)) + uid if uid else b"")
    whole = struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements
    context = one.context if answer.context is None else answer.context
    return struct.pack(">BxLLBB", 4, len(whole) + 6, len(whole) + 2, context, 3) + whole


@contextmanager
def storage_peer(*, at: socket.socket | None = None, **behaviour):
    """Run a StoragePeer on a free loopback port, or with the listener `at`; it is gone when the block ends."""
    peer = StoragePeer(**behaviour)
    over = threading.Event()
    threads = []
    with at or socket.create_server(("127.0.0.1", 0)) as listener:
        peer.port = listener.getsockname()[1]

        def listen() -> None:
            with suppress(OSError):
                while not over.is_set():
                    connection, _ = listener.accept()
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    threads.append(
                        threading.Thread(target=peer.serve, args=(connection, len(threads) + 1, over), daemon=True)
                    )
                    threads[-1].start()

        acceptor = threading.Thread(target=listen, daemon=True)
        acceptor.start()
        try:
            yield peer
        finally:
            over.set()
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            acceptor.join(5)
            for thread in threads:
                thread.join(5)


def data_set(one: Received):
    """Return what was received as pydicom reads it in the negotiated transfer syntax."""
    implicit = one.transfer_syntax == "1.2.840.10008.1.2"
    return read_dataset(DicomBytesIO(one.data), implicit, is_little_endian=True)


# --- what a test does with it ----------------------------------------------------------------------

TABLE = {
    "name": "publisher",
    "kind": "cstore",
    "ae_title": "PUBLISHER",
    "host": "127.0.0.1",
    "calling_ae_title": "STORESTOW",
    "response_timeout": "1s",
    "associate_timeout": "1s",
}


def destination(port: int, **more: object) -> Destination:
    return from_table({**TABLE, "port": port, **more})


def deliver(port: int, items: Sequence[Item], attempts: Attempts | None = None, **more: object):
    """Return the receipts that count by UID, all receipts in order, and what was raised."""
    receipts, error = [], None
    try:
        receipts.extend(destination(port, **more).deliver(consign(items, attempts)))
    except StorestowError as raised:
        error = raised
    return last_of(receipts), receipts, error


def states(receipts) -> list[str]:
    return [receipt.state.value for receipt in receipts.values()]


def data_set_bytes(item: Item) -> bytes:
    """Return what of the item's file may leave, found by a walk through all of it."""
    content = item.path.read_bytes()
    layout = walk(content)
    return content[layout.data_set : layout.end]


def as_item(path: Path) -> Item:
    """Return the item of a file somebody else made, pinned as it is."""
    header = pydicom.dcmread(path, stop_before_pixels=True)
    key = InstanceKey(header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)
    return replace(
        pinned(path, key),
        sop_class_uid=str(header.SOPClassUID),
        transfer_syntax_uid=str(header.file_meta.TransferSyntaxUID),
    )
