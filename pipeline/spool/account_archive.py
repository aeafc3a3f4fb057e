"""Accounts of what the ledger has forgotten: lines of JSON in a Zstandard file a year, which only ever grows.

Beside each file its `.end` says how much of it was made durable. What lies beyond is the rest of an append that
was killed before the ledger forgot anything of it: readers leave it out, and the next append writes over it.
"""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, cast

import zstandard

from pipeline.spool.durable import append_durably, write_durably

LONGEST_LINE = 256 << 20  # bytes; an arrival of a hundred thousand instances


class AccountArchive:
    """The archive below `folder`; two processes must not append at once (the worker alone does)."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def append(self, year: int, lines: Sequence[bytes]) -> None:
        """Append lines to the file of a year, and return when they are on the disk; raises OSError."""
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
        """Yield the lines that hold `word`, the oldest first; raises ValueError naming a file that is damaged."""
        for file in sorted(self.folder.glob("*.jsonl.zst")):
            try:
                yield from (line for line in _lines_of(file) if word in line)
            except zstandard.ZstdError as error:
                raise ValueError(f"{file} is damaged: {error}") from error


def _end_file(file: Path) -> Path:
    return file.with_name(f"{file.name}.end")


def _end_of(file: Path) -> int:
    """Return up to where a file counts; all of it where its end was lost."""
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
    """The first bytes of a file."""

    def __init__(self, raw: io.BufferedReader, size: int) -> None:
        super().__init__()
        self._raw, self._left = raw, size

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(self._left if size < 0 else min(size, self._left))
        self._left -= len(data)
        return data
