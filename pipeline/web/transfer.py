"""Send a finished file: it is opened once, so that it stays the same file to the last byte.

The name of the file is quoted so that it cannot break its header. Other headers say which file, or which part of
it, a client has already.
"""

import asyncio
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from pipeline.disc.pages.disc_names import download_name_of_several
from pipeline.orders import MadeFile, OrderView
from pipeline.web.http_errors import CHANGED, RESULT_GONE, WRONG_RANGE, HttpError
from pipeline.web.order_request import Verb

PIECE = 1 << 18  # Bytes read at once; a client that stalls may hold twice as much of our memory.
_PIECE_IN_MEMORY = 1 << 17  # Half as much keeps the loop busy half as long, and costs no more in all.
_SUFFIX = re.compile(r"[a-z0-9]{1,8}")
_ENTITY_TAG = re.compile(r'(?:W/)?"[^"]*"')


@dataclass(slots=True)
class OpenResult:
    """An open file, and how a client recognises it again; the caller must `close` it."""

    descriptor: int
    size: int
    entity_tag: str

    @classmethod
    def of(cls, result: MadeFile) -> Self:
        """Open a result; raises HttpError (410) if the file is gone."""
        try:
            descriptor = os.open(result.path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise HttpError(RESULT_GONE, "the file is no longer kept; ask for it again") from error
        about = os.fstat(descriptor)
        if not stat.S_ISREG(about.st_mode):
            os.close(descriptor)
            raise HttpError(RESULT_GONE, "the file is no longer kept; ask for it again")
        return cls(descriptor, about.st_size, f'"{about.st_ino:x}-{about.st_size:x}-{about.st_mtime_ns:x}"')

    def close(self) -> None:
        """Close the file."""
        os.close(self.descriptor)


class Transfer:
    """An ASGI response: the whole file, or the one part that the client lacks."""

    def __init__(self, result: OpenResult, name: str, wanted: tuple[int, int] | None) -> None:
        self.result = result
        self.status_code = 206 if wanted else 200
        self.start, self.end = wanted or (0, result.size)
        self.headers = {
            "Content-Type": "application/octet-stream",
            "Content-Disposition": disposition(name),
            "Content-Length": str(self.end - self.start),
            "Accept-Ranges": "bytes",
            "ETag": result.entity_tag,
        }
        if wanted:
            self.headers["Content-Range"] = f"bytes {self.start}-{self.end - 1}/{result.size}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the file; break the connection if the client leaves or the file cannot be read."""
        try:
            head = [(name.lower().encode(), value.encode("ascii")) for name, value in self.headers.items()]
            await send({"type": "http.response.start", "status": self.status_code, "headers": head})
            if scope["method"] == "HEAD":
                await send({"type": "http.response.body", "body": b""})
            else:
                await self._send_body(receive, send)
        finally:
            self.result.close()

    async def _send_body(self, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(_until_disconnected(receive))
        try:
            at = self.start
            while at < self.end and not gone.done():
                length = min(PIECE, self.end - at)
                piece = _in_memory(self.result.descriptor, min(length, _PIECE_IN_MEMORY), at)
                if piece:
                    await asyncio.sleep(0)  # Else a client that takes all at once would keep the loop for itself.
                else:
                    piece = await run_in_threadpool(os.pread, self.result.descriptor, length, at)
                if not piece:
                    raise OSError(f"the result ends at {at} instead of {self.end}")
                at += len(piece)
                await send({"type": "http.response.body", "body": piece, "more_body": at < self.end})
            if self.start == self.end:
                await send({"type": "http.response.body", "body": b""})
        finally:
            gone.cancel()


def _in_memory(descriptor: int, length: int, at: int) -> bytes | bytearray:
    """Return what can be read without waiting for a disk, a part of it perhaps; nothing if nothing can.

    A file that was just written is in memory, and a thread for each piece would take as long again as to send it.
    """
    piece = bytearray(length)
    try:
        read = os.preadv(descriptor, [piece], at, os.RWF_NOWAIT)
    except (AttributeError, OSError):  # Only Linux has this, and not for every file system.
        return b""
    del piece[read:]
    return piece


async def _until_disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def wanted_part(
    result: OpenResult, range_header: str | None, if_range: str | None, *, is_the_only_one: bool
) -> tuple[int, int] | None:
    """Return the part to send, None for the whole file.

    A client that names the file it has a part of (If-Range) gets the rest of that file only. A client that names
    none may hold a part of an earlier image of the same study: it gets the whole file unless there never was
    another.
    """
    matches = if_range == result.entity_tag if if_range is not None else is_the_only_one
    return part_of(range_header, result.size) if matches else None


_ONE_RANGE = re.compile(r"bytes=(\d{0,19})-(\d{0,19})")


def part_of(header: str | None, size: int) -> tuple[int, int] | None:
    """Return the first wanted byte of a Range header and the one after the last; None means the whole file.

    The header is that of RFC 9110, 14.1 and 14.2.

    A header that is no single byte range is ignored, as the standard allows: the whole file is never wrong. Raises
    HttpError (416) if the file has no byte of the range.
    """
    match = _ONE_RANGE.fullmatch((header or "").strip())
    if not match or not (match[1] or match[2]):
        return None
    if match[1] and match[2] and int(match[2]) < int(match[1]):
        return None
    if match[1]:
        start, end = int(match[1]), min(size, int(match[2]) + 1 if match[2] else size)
    else:
        start, end = max(0, size - int(match[2])), size
    if start >= end:
        raise HttpError(WRONG_RANGE, f"the file has {size} bytes", size=size)
    return start, end


def name_of(view: OrderView, result: MadeFile, patient_name: str) -> str:
    """Return the file name of an order's result: `{ACCESSION}.iso`, or `{PATIENT_NAME}-{ACCESSIONS}.iso`."""
    suffix = Path(result.name).suffix.removeprefix(".").lower()
    suffix = suffix if _SUFFIX.fullmatch(suffix) else "iso"
    accessions = [number for number in view.accessions if number not in view.missing]
    if view.verb == Verb.DOWNLOAD_MULTIPLE or len(accessions) != 1:
        return download_name_of_several(patient_name, accessions, suffix)
    return f"{_plain(accessions[0])}.{suffix}"


def disposition(name: str) -> str:
    """Return the Content-Disposition of an attachment (RFC 6266, 4.2)."""
    return f'attachment; filename="{_plain(name)}"'


def _plain(name: str) -> str:
    """Return a name that every file system and browser keeps unchanged; never hidden, never empty."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "download"


def names_it(headers: Headers, entity_tag: str) -> bool:
    """Say whether If-Match names this very file; raises HttpError (412) if it names only other files."""
    wanted = ", ".join(headers.getlist("if-match"))
    if "if-match" not in headers or wanted.strip() == "*":
        return False
    if entity_tag not in _ENTITY_TAG.findall(wanted):  # By the strong comparison, W/"x" does not match x.
        raise HttpError(CHANGED, "this is not the image you have a part of; ask for it from its beginning")
    return True


def has_it(headers: Headers, entity_tag: str) -> bool:
    """Say whether If-None-Match names this file, by the weak comparison: then the client has it already."""
    had = ", ".join(headers.getlist("if-none-match"))
    return had.strip() == "*" or entity_tag in (tag.removeprefix("W/") for tag in _ENTITY_TAG.findall(had))
