"""Keep the accounts of rows that the ledger has forgotten: lines of JSON in one Zstandard file for each year.

A file only grows. Beside it, its `.end` has the number of bytes that are durable. Bytes after them are the rest of
an append that was killed before the ledger forgot the rows: readers leave them out, and the next append replaces
them.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import zstandard

from pipeline.spool.durable import append_durably, write_durably

LONGEST_LINE = 256 << 20  # Bytes, enough for an arrival of a hundred thousand instances.


class AccountArchive:
    """The archive in `folder`; only one process may append at a time (only the worker does)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, year: int, lines: Sequence[bytes]) -> None:
        """Append lines to the file of a year; return when they are on the disk. Raises OSError."""
        if not lines:
            return
        self.folder.mkdir(mode=0o750, exist_ok=True)
        file = self.folder / f"{year}.jsonl.zst"
        end = _end_of(file)
        if not file.exists():
            write_durably(_end_file(file), b"0")
        frame = zstandard.ZstdCompressor(level=9, write_checksum=True).compress(
            b"".join(it + b"\n" for it in lines)
        )
        append_durably(file, frame, after=end)
        write_durably(_end_file(file), str(end + len(frame)).encode())

    def lines(self, word: bytes) -> Iterator[bytes]:
        """Yield the lines that contain `word`, the oldest first; raises ValueError, which names a damaged file."""
        for file in sorted(self.folder.glob("*.jsonl.zst")):
            try:
                yield from (line for line in _lines_of(file) if word in line)
            except zstandard.ZstdError as error:
                raise ValueError(f"{file} is damaged: {error}") from error


def _end_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.end")


def _end_of(file: Path) -> int:
    """Return how many bytes of a file are durable: all of them if its `.end` is missing."""
    try:
        return int(_end_file(file).read_bytes())
    except FileNotFoundError:
        return file.stat().st_size if file.exists() else 0


def _lines_of(file: Path) -> Iterator[bytes]:
    with file.open("rb") as raw:
        counted = cast("IO[bytes]", _Part(raw, _end_of(file)))
        reader = zstandard.ZstdDecompressor().stream_reader(counted, read_across_frames=True)
        text = io.BufferedReader(reader)
        while line := text.readline(LONGEST_LINE):
            yield line


class _Part(io.RawIOBase):
    """Read no more than the first `size` bytes of a file."""

    def __init__(self, raw: io.BufferedReader, size: int) -> None:
        super().__init__()
        self._raw, self._left = raw, size

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data
