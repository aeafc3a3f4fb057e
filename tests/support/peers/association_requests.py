"""Build A-ASSOCIATE-RQ PDUs byte by byte, right and wrong ones (PS3.8 9.3.2)."""

import socket
import struct


def item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def context(number: int, abstract_syntax: bytes, *transfer_syntaxes: bytes) -> bytes:
    """Return a presentation context item."""
    proposed = transfer_syntaxes or (b"1.2.840.10008.1.2",)
    return item(
        0x20,
        struct.pack("B3x", number)
        + item(0x30, abstract_syntax)
        + b"".join(item(0x40, syntax) for syntax in proposed),
    )


def request(calling: bytes, called: bytes, *items: bytes) -> bytes:
    """Return a whole PDU, its length right whatever is in it."""
    body = struct.pack(">H2x16s16s32x", 1, called.ljust(16), calling.ljust(16)) + b"".join(items)
    return struct.pack(">BxI", 1, len(body)) + body


def answer(port: int, calling: bytes = b"CT1", called: bytes = b"STORESTOW") -> bytes:
    """Return the beginning of what a receiver answers such a request with, b"" where it hangs up."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as peer:
        peer.sendall(request(calling, called, context(1, b"1.2.840.10008.5.1.4.1.1.2")))
        try:
            return peer.recv(10)
        except ConnectionResetError:
            return b""


def rejection(*reason: int) -> bytes:
    """Return an A-ASSOCIATE-RJ of this result, source and reason (PS3.8 9.3.4)."""
    return b"\x03\0\0\0\0\x04\0" + bytes(reason)
