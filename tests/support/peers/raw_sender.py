"""A modality without manners: it stores any bytes under any UIDs, byte for byte, and may hang up in mid-object.

Libraries refuse to send what is not valid; machines do not. PS3.8 section 9.3 (PDUs), PS3.7 section 9.3.1 and
annex E (the C-STORE command set).
"""

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import pydicom
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, SecondaryCaptureImageStorage

PIECE = 16 << 10
MOST_CONTEXTS = 128  # presentation context identifiers are odd numbers of one byte
SUCCESS = 0x0000
MEANINGS = {0xA700: "out of resources", 0xA900: "not of its class", 0xC000: "cannot understand"}  # PS3.4 B.2.3


@dataclass(frozen=True)
class Object:
    """What a C-STORE carries: the names in its command, and the data set as it is."""

    sop_class: str
    sop_instance: str
    transfer_syntax: str
    data_set: bytes
    name: str = ""

    @property
    def context(self) -> tuple[str, str]:
        return self.sop_class, self.transfer_syntax


class HungUp(Exception):
    """The peer aborted the association or closed the connection."""


def object_of(path: Path, *, name: str = "") -> Object:
    """Return a file as an object to send; what its data set does not say is made up, as bad machines do."""
    content = path.read_bytes()
    start = 132 if content[128:132] == b"DICM" else 0
    end, meta = _meta(content, start)
    syntax = meta.get(0x00020010) or _guessed_syntax(content[end : end + 6])
    sop_class, sop_instance = _uids(path)
    return Object(
        sop_class or meta.get(0x00020002) or SecondaryCaptureImageStorage,
        sop_instance or meta.get(0x00020003) or "1.2.826.0.1.3680043.9.9997.1",
        syntax,
        content[end:],
        name or path.name,
    )


def _meta(content: bytes, at: int) -> tuple[int, dict[int, str]]:
    """Return where group 0002 ends, and its texts; it is Explicit VR Little Endian (PS3.10 7.1)."""
    found = {}
    while content[at : at + 2] == b"\x02\x00":
        tag = 0x00020000 | struct.unpack_from("<H", content, at + 2)[0]
        is_long = content[at + 4 : at + 6] in {b"OB", b"UN"}
        (length,) = struct.unpack_from("<L" if is_long else "<H", content, at + (8 if is_long else 6))
        at += 12 if is_long else 8
        found[tag] = content[at : at + length].rstrip(b"\0 ").decode("ascii", "replace")
        at += length
    return at, found


def _guessed_syntax(head: bytes) -> str:
    is_explicit = head[4:6].isalpha() and head[4:6].isupper()
    return str(ExplicitVRLittleEndian if is_explicit else ImplicitVRLittleEndian)


def _uids(path: Path) -> tuple[str, str]:
    try:
        found = pydicom.dcmread(path, force=True, specific_tags=["SOPClassUID", "SOPInstanceUID"])
        return str(found.get("SOPClassUID", "")), str(found.get("SOPInstanceUID", ""))
    except Exception:  # no DICOM at all
        return "", ""


class Association:
    """An association over which objects are stored; leaving the block releases it."""

    def __init__(
        self,
        port: int,
        objects: Iterable[Object],
        *,
        calling: str = "SENDER",
        called: str = "STORESTOW",
        host: str = "127.0.0.1",
    ) -> None:
        contexts = list(dict.fromkeys(one.context for one in objects))
        assert len(contexts) <= MOST_CONTEXTS
        self._numbers = {context: 2 * n + 1 for n, context in enumerate(contexts)}
        self._accepted: set[int] = set()
        self._most = PIECE
        self._message = 0
        self._socket = socket.create_connection((host, port), timeout=60)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            self._open(calling, called)
        except HungUp:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        self.close()

    def _open(self, calling: str, called: str) -> None:
        items = _item(0x10, b"1.2.840.10008.3.1.1.1")
        for (sop_class, syntax), number in self._numbers.items():
            syntaxes = _item(0x30, sop_class.encode()) + _item(0x40, syntax.encode())
            items += _item(0x20, bytes([number, 0, 0, 0]) + syntaxes)
        about = _item(0x51, struct.pack(">L", 1 << 17)) + _item(0x52, b"1.2.826.0.1.3680043.9.9997")
        names = f"{called:16.16}{calling:16.16}".encode("latin-1")
        self._send(0x01, b"\0\1\0\0" + names + b"\0" * 32 + items + _item(0x50, about))
        kind, body = self._receive()
        if kind != 0x02:
            raise HungUp(f"the proposal was answered by {_named(kind)}")
        for item, value in _items(body[68:]):
            if item == 0x21 and value[2] == 0:
                self._accepted.add(value[0])
            elif item == 0x50:
                self._most = next(struct.unpack(">L", v)[0] for i, v in _items(value) if i == 0x51) or PIECE

    def takes(self, one: Object) -> bool:
        """Say whether the peer accepted the object's class in its transfer syntax."""
        return self._numbers[one.context] in self._accepted

    def store(self, one: Object) -> int:
        """Send an object and return the status of the response; raises HungUp where there is none."""
        self.begin(one, len(one.data_set))
        return self.status()

    def begin(self, one: Object, length: int) -> None:
        """Send the command and the first `length` bytes of the data set, and wait for nothing."""
        number = self._numbers[one.context]
        self._message += 1
        self._send_fragments(number, 0x01, _command(one, self._message), is_whole=True)
        self._send_fragments(number, 0x00, one.data_set[:length], is_whole=length == len(one.data_set))

    def status(self) -> int:
        """Return the status of the next response (0000,0900)."""
        command = b""
        while True:
            kind, body = self._receive()
            if kind != 0x04:
                raise HungUp(f"{_named(kind)} instead of a response")
            for _, control, value in _values(body):
                command += value
                if control & 0x02:
                    return _status(command)

    def release(self) -> None:
        self._send(0x05, b"\0" * 4)
        self._receive()

    def abort(self) -> None:
        self._send(0x07, b"\0" * 4)
        self.close()

    def close(self) -> None:
        """Hang up without a word."""
        self._socket.close()

    def _send_fragments(self, number: int, kind: int, content: bytes, *, is_whole: bool) -> None:
        step = min(PIECE, self._most - 6)
        starts = range(0, max(len(content), 1), step)
        for at in starts:
            piece = content[at : at + step]
            control = kind | (0x02 if is_whole and at == starts[-1] else 0)
            self._send(0x04, struct.pack(">LBB", len(piece) + 2, number, control) + piece)

    def _send(self, kind: int, body: bytes) -> None:
        try:
            self._socket.sendall(struct.pack(">BBL", kind, 0, len(body)) + body)
        except OSError as error:
            raise HungUp(str(error)) from error

    def _receive(self) -> tuple[int, bytes]:
        kind, _, length = struct.unpack(">BBL", self._read(6))
        return kind, self._read(length)

    def _read(self, length: int) -> bytes:
        content = b""
        while len(content) < length:
            try:
                piece = self._socket.recv(length - len(content))
            except ConnectionError as error:
                raise HungUp(str(error)) from error
            if not piece:
                raise HungUp("the peer closed the connection")
            content += piece
        return content


def send(port: int, objects: Sequence[Object], **names: str) -> list[str]:
    """Send objects in as many associations as it takes; return "" for each acknowledged one, else why not."""
    answers: list[str] = []
    while len(answers) < len(objects):
        rest = objects[len(answers) :]
        batch = _batch(rest)
        try:
            with Association(port, batch, **names) as association:
                for one in batch:
                    if not association.takes(one):
                        answers.append("no presentation context was accepted")
                        continue
                    status = association.store(one)
                    answers.append("" if status == SUCCESS else f"status {status:04X} {MEANINGS.get(status, '')}")
        except HungUp as error:
            answers.append(f"association ended: {error}")
    return answers


def _batch(objects: Sequence[Object]) -> Sequence[Object]:
    """Return the first objects that fit into one association."""
    contexts: set[tuple[str, str]] = set()
    for number, one in enumerate(objects):
        contexts.add(one.context)
        if len(contexts) > MOST_CONTEXTS:
            return objects[:number]
    return objects


def renamed(one: Object, sop_instance: str) -> Object:
    """Return the object under another SOP Instance UID of the same length, all other bytes as they are."""
    old, new = _padded(one.sop_instance), _padded(sop_instance)
    assert len(old) == len(new)
    assert one.data_set.count(old) >= 1, one.name
    return replace(one, sop_instance=sop_instance, data_set=one.data_set.replace(old, new, 1))


def _named(kind: int) -> str:
    return {0x03: "A-ASSOCIATE-RJ", 0x07: "A-ABORT"}.get(kind, f"a PDU of type {kind}")


def _padded(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def _command(one: Object, message: int) -> bytes:
    elements = b"".join(
        struct.pack("<HHL", 0, number, len(value)) + value
        for number, value in (
            (0x0002, _padded(one.sop_class)),
            (0x0100, struct.pack("<H", 0x0001)),  # C-STORE-RQ
            (0x0110, struct.pack("<H", message % 65536)),
            (0x0700, struct.pack("<H", 0)),
            (0x0800, struct.pack("<H", 0)),  # there is a data set
            (0x1000, _padded(one.sop_instance)),
        )
    )
    return struct.pack("<HHLL", 0, 0, 4, len(elements)) + elements


def _status(command: bytes) -> int:
    at = 0
    while at < len(command):
        _, number, length = struct.unpack_from("<HHL", command, at)
        if number == 0x0900:
            return int(struct.unpack_from("<H", command, at + 8)[0])
        at += 8 + length
    raise HungUp("a response without a status")


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BBH", kind, 0, len(value)) + value


def _items(body: bytes) -> Iterable[tuple[int, bytes]]:
    at = 0
    while at < len(body):
        kind, _, length = struct.unpack_from(">BBH", body, at)
        yield kind, body[at + 4 : at + 4 + length]
        at += 4 + length


def _values(body: bytes) -> Iterable[tuple[int, int, bytes]]:
    at = 0
    while at < len(body):
        length, number, control = struct.unpack_from(">LBB", body, at)
        yield number, control, body[at + 6 : at + 4 + length]
        at += 4 + length
