"""Open an association as its requestor, send one message at a time, release or abort it (PS3.8 7)."""

import contextlib
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from pipeline.cstore import message, pdu, tls_handshake
from pipeline.cstore.data_set_stream import DataSetStream, NotAsPinned
from pipeline.cstore.message import ResponseMessage
from pipeline.cstore.pdu import (
    ABORT_BY_USER,
    DATA_HEADER,
    RELEASE_RP,
    RELEASE_RQ,
    AssociateAccept,
    NotPdu,
    PduType,
    ProposedContext,
    associate_rq,
    data_header,
    read_acceptance,
    read_values,
)
from pipeline.cstore.pdu_connection import ConnectionLost, Peer, connect, receive, send
from pipeline.errors import PeerUnavailable, StorestowError

VERIFICATION = "1.2.840.10008.1.1"
_SHORTEST_PDU = 64  # A smaller PDU could not hold a fragment of a command set.
_LAST_WORDS_SECONDS = 1.0
_RELEASE_SECONDS = 10.0  # This may be short, because every instance has its response before the release.


def _nothing() -> None:
    pass


class Association:
    """An open association; leaving its `with` block releases it, leaving with an exception aborts it."""

    def __init__(self, peer: Peer, connected: socket.socket, acceptance: AssociateAccept) -> None:
        self._peer, self._socket = peer, connected
        self.answers: Mapping[int, tuple[int, str]] = acceptance.answers
        room = min(acceptance.longest_pdu or peer.max_pdu, peer.max_pdu) - 6  # PS3.8 D.1.1
        self._room = room - room % 2
        self._buffer = memoryview(bytearray(DATA_HEADER.size + self._room))
        self._message = 0
        self.is_open = True

    @classmethod
    def open(cls, peer: Peer, proposals: Sequence[ProposedContext]) -> Self:
        """Connect to the peer and propose presentation contexts.

        Raises:
            PeerUnavailable: the peer cannot be reached, rejects us for now, or does not speak DICOM. Try later.
            Permanent: the peer rejects us permanently.
            Configuration: the TLS settings of both sides do not match; a person must change one of them.
        """
        connected = connect(peer)
        try:
            request = associate_rq(peer.ae_title, peer.calling_ae_title, proposals, peer.max_pdu)
            with contextlib.suppress(ConnectionLost):  # The next PDU may say why the peer hung up.
                send(connected, request, peer.associate_seconds)
            kind, body = receive(connected, peer.associate_seconds)
            return cls(peer, connected, _accepted(peer, kind, body))
        except (ConnectionLost, NotPdu) as error:
            connected.close()
            raise _unopened(peer, error) from error
        except BaseException:
            connected.close()
            raise

    def store(
        self,
        context: int,
        sop_class_uid: str,
        sop_instance_uid: str,
        data: DataSetStream,
        meanwhile: Callable[[], None] = _nothing,
    ) -> ResponseMessage:
        """Send one instance and return the peer's response (PS3.7 9.1.1); call `meanwhile` while the peer works.

        Raises:
            NotAsPinned: the file differs from its pin. The peer has not received its last bytes; if it received
                any, the association has ended.
            ConnectionLost: the result is unknown, and the association has ended. Ask or send again.
        """
        count = data.read_into(self._buffer[DATA_HEADER.size :])
        number = self._next_message()
        self._send_command(context, message.c_store_rq(number, sop_class_uid, sop_instance_uid))
        self._send_fragment(context, count, is_last=data.is_read)
        while not data.is_read:
            try:
                count = data.read_into(self._buffer[DATA_HEADER.size :])
            except NotAsPinned:
                self.abort()  # Otherwise the peer would wait for the rest.
                raise
            self._send_fragment(context, count, is_last=data.is_read)
        meanwhile()
        response = self._response(context, number, message.C_STORE_RSP)
        if response.sop_instance_uid not in {"", sop_instance_uid}:
            raise self._lost("answers for another SOP Instance than it was sent")
        return response

    def echo(self, context: int) -> ResponseMessage:
        """Send a C-ECHO (PS3.7 9.1.5) and return the peer's response; raises ConnectionLost."""
        number = self._next_message()
        self._send_command(context, message.c_echo_rq(number, VERIFICATION))
        return self._response(context, number, message.C_ECHO_RSP)

    def abort(self) -> None:
        """Abort the association at once, without waiting for the response to the current message."""
        if self.is_open:
            self.is_open = False
            with contextlib.suppress(ConnectionLost):
                send(self._socket, ABORT_BY_USER, _LAST_WORDS_SECONDS)
            tls_handshake.hang_up(self._socket)

    def release(self) -> None:
        """Release the association (PS3.8 7.2). Errors are ignored: every instance has its response by then."""
        if self.is_open:
            self.is_open = False
            with contextlib.suppress(ConnectionLost, NotPdu):
                send(self._socket, RELEASE_RQ, _RELEASE_SECONDS)
                kind, _ = receive(self._socket, _RELEASE_SECONDS)
                if kind == PduType.RELEASE_RQ:  # A release collision, PS3.8 7.2.2.7.
                    send(self._socket, RELEASE_RP, _RELEASE_SECONDS)
            tls_handshake.hang_up(self._socket)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.release()
        else:
            self.abort()

    def _next_message(self) -> int:
        self._message = self._message % message.MOST_MESSAGES + 1
        return self._message

    def _send_command(self, context: int, command_set: bytes) -> None:
        for at in range(0, len(command_set), self._room):
            piece = command_set[at : at + self._room]
            is_last = at + self._room >= len(command_set)
            self._send(data_header(context, len(piece), is_command=True, is_last=is_last) + piece)

    def _send_fragment(self, context: int, count: int, *, is_last: bool) -> None:
        """Send `count` bytes of the data set; they are in the buffer, after the space for the header."""
        header = data_header(context, count, is_command=False, is_last=is_last)
        self._buffer[: DATA_HEADER.size] = header
        self._send(self._buffer[: DATA_HEADER.size + count])

    def _send(self, data: bytes | memoryview) -> None:
        try:
            send(self._socket, data, self._peer.response_seconds)
        except ConnectionLost as lost:
            raise self._lost(self._last_words() or str(lost), timed_out=lost.timed_out) from lost

    def _last_words(self) -> str:
        """Return the reason in the A-ABORT of a peer that accepts no more bytes; "" if it has sent none."""
        with contextlib.suppress(ConnectionLost, NotPdu):
            kind, body = receive(self._socket, _LAST_WORDS_SECONDS)
            if kind == PduType.ABORT and len(body) >= 4:
                return pdu.abort_words(body[2], body[3])
        return ""

    def _response(self, context: int, number: int, command: int) -> ResponseMessage:
        """Return the response to message `number`.

        Any other message ends the association: raises ConnectionLost.
        """
        try:
            response = message.read_response(self._message_of(context, is_command=True))
            if response.has_data_set:
                self._message_of(context, is_command=False)
        except NotPdu as error:
            raise self._lost(str(error)) from error
        except ConnectionLost as lost:
            raise self._lost(str(lost), timed_out=lost.timed_out) from lost
        if (response.command, response.message) != (command, number):
            raise self._lost("answers something else than it was asked")
        return response

    def _message_of(self, context: int, *, is_command: bool) -> bytes:
        """Return one whole command set, or one whole data set; raises ConnectionLost or NotPdu."""
        whole = bytearray()
        while True:
            kind, body = receive(self._socket, self._peer.response_seconds)
            if kind != PduType.DATA:
                raise ConnectionLost(self._farewell(kind, body))
            for at_context, of_command, is_last, fragment in read_values(body):
                if at_context != context or of_command != is_command:
                    raise NotPdu("answers in another presentation context than it was asked in")
                whole += fragment
                if is_last:
                    return bytes(whole)

    def _farewell(self, kind: int, body: bytes) -> str:
        if kind == PduType.ABORT and len(body) >= 4:
            return pdu.abort_words(body[2], body[3])
        if kind == PduType.RELEASE_RQ:
            with contextlib.suppress(ConnectionLost):
                send(self._socket, RELEASE_RP, _LAST_WORDS_SECONDS)
            return "released the association instead of answering"
        return f"answers with a PDU of type {kind}, which makes no sense here"

    def _lost(self, why: str, *, timed_out: bool = False) -> ConnectionLost:
        """Abort the association and return the error: after one wrong answer, no later answer can be trusted."""
        self.abort()
        return ConnectionLost(why, timed_out=timed_out)


def _unopened(peer: Peer, error: ConnectionLost | NotPdu) -> StorestowError:
    if isinstance(error, NotPdu) or error.timed_out:
        return PeerUnavailable(f"{peer} does not open an association: {error}")
    if peer.encryption:
        return tls_handshake.error_of(str(peer), peer.encryption, error.__cause__)
    return PeerUnavailable(f"{peer} does not open an association: {error}; it may speak TLS there")


def _accepted(peer: Peer, kind: int, body: bytes) -> AssociateAccept:
    if kind == PduType.ASSOCIATE_RJ and len(body) >= 4:
        raise pdu.rejection(str(peer), *body[1:4])
    if kind == PduType.ABORT and len(body) >= 4:
        raise NotPdu(pdu.abort_words(body[2], body[3]))
    if kind != PduType.ASSOCIATE_AC:
        raise NotPdu(f"it answers with a PDU of type {kind}")
    acceptance = read_acceptance(body)
    if 0 < acceptance.longest_pdu < _SHORTEST_PDU:
        raise NotPdu(f"it takes PDUs of {acceptance.longest_pdu} bytes at most")
    return acceptance


@dataclass(frozen=True, slots=True)
class EchoResult:
    """The result of a C-ECHO: the status, None if the peer accepts the association but not C-ECHO."""

    status: int | None


def echo(peer: Peer) -> EchoResult:
    """Open an association, send a C-ECHO and release the association; raises as `Association.open` does."""
    proposal = ProposedContext(1, VERIFICATION, "1.2.840.10008.1.2")
    with Association.open(peer, [proposal]) as association:
        if association.answers.get(1, (2, ""))[0] != 0:
            return EchoResult(None)
        try:
            return EchoResult(association.echo(1).status)
        except ConnectionLost as lost:
            raise PeerUnavailable(f"{peer} opens an association, but {lost}") from lost


def takes(peer: Peer, sop_classes: Sequence[str], transfer_syntax_uid: str) -> list[str]:
    """Return the SOP classes that the peer accepts in this transfer syntax, of 128 at most.

    Raises as `Association.open` does.
    """
    proposals = [ProposedContext(2 * n + 1, uid, transfer_syntax_uid) for n, uid in enumerate(sop_classes)]
    with Association.open(peer, proposals) as association:
        answers = association.answers
    accepted = (0, transfer_syntax_uid)
    return [proposed.abstract_syntax for proposed in proposals if answers.get(proposed.context) == accepted]
