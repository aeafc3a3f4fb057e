"""Limit the waits for an archive: while it reads a block, until it answers, until the answer is complete.

urllib3 has a time-out for each wait and none for the whole answer. A peer that sends one byte now and then could
keep us waiting without end, in the status line and headers as well as in the body.
"""

import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

SEND_SECONDS = 60.0  # Seconds for one block; an archive with a slow disk stops reading for a while.


@dataclass(slots=True)
class AnswerLimit:
    """The most seconds from the end of a request to the end of its answer."""

    seconds: float


class AnswerTooSlow(TimeoutError):
    """Say that an answer began and was not complete in time."""


class _Timed(io.RawIOBase):
    """The bytes of one answer; to read them after the deadline raises AnswerTooSlow."""

    def __init__(self, sock: Any, seconds: float) -> None:
        self._sock = sock
        # The file keeps the socket open, as the answer's own file would.
        self._raw = sock.makefile("rb", buffering=0)
        self._pause: float | None = sock.gettimeout()  # Longest pause between two pieces.
        self._deadline = time.monotonic() + seconds
        self._has_begun = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise AnswerTooSlow
        try:
            self._sock.settimeout(left if self._pause is None else min(self._pause, left))
            read: int | None = self._raw.readinto(buffer)
        except TimeoutError as error:
            if self._has_begun and time.monotonic() >= self._deadline:
                raise AnswerTooSlow from error
            raise
        self._has_begun = True
        return read

    def close(self) -> None:
        self._raw.close()
        super().close()


class _SlowReader:
    sock: Any
    limit: AnswerLimit

    def endheaders(self, *arguments: Any, **options: Any) -> None:
        super().endheaders(*arguments, **options)  # type: ignore[misc]  # mixed into a connection
        self.sock.settimeout(SEND_SECONDS)

    def response_class(self, sock: Any, *arguments: Any, **options: Any) -> HTTPResponse:
        answer = HTTPResponse(sock, *arguments, **options)
        answer.fp.close()
        answer.fp = io.BufferedReader(_Timed(sock, self.limit.seconds))
        return answer


class _SlowReaderConnection(_SlowReader, HTTPConnection):  # type: ignore[misc]  # response_class is a class there
    pass


class _SlowReaderTlsConnection(_SlowReader, HTTPSConnection):  # type: ignore[misc]  # likewise
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _SlowReaderConnection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _SlowReaderTlsConnection


class SlowReaderAdapter(HTTPAdapter):
    """Wait SEND_SECONDS for the archive to read each block, and no longer than `limit` for each answer."""

    def __init__(self, limit: AnswerLimit, **options: Any) -> None:
        self._limit = limit
        super().__init__(**options)

    def init_poolmanager(self, *arguments: Any, **options: Any) -> None:
        """Make a pool manager whose connections have these limits."""
        super().init_poolmanager(*arguments, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": self._of(_Pool), "https": self._of(_TlsPool)}

    def _of(self, pool: type[HTTPConnectionPool]) -> Callable[..., HTTPConnectionPool]:
        def made(*arguments: Any, **options: Any) -> HTTPConnectionPool:
            connections = pool(*arguments, **options)
            connections.ConnectionCls = type(
                pool.ConnectionCls.__name__, (pool.ConnectionCls,), {"limit": self._limit}
            )
            return connections

        return made
