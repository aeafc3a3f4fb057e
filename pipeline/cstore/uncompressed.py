"""Decode instances for a peer that accepts no compressed transfer syntax; each copy is deleted once it is sent."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.cstore.contexts import IMPLICIT
from pipeline.cstore.data_set_stream import DataSetStream, NotAsPinned, outgoing
from pipeline.errors import Permanent, StorestowError, Transient
from pipeline.model import Item
from pipeline.processes.limits import to_encode
from pipeline.processes.process_pool import PoolProcessDied, ProcessPool
from pipeline.spool.durable import unlink
from pipeline.spool.hashed_files import sha256_of


class DecodingProcess:
    """Decode in a process of its own, started on first use: a malformed frame can end it, but not the worker."""

    def __init__(self) -> None:
        self._pool: ProcessPool | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool:
            self._pool.close()

    @contextmanager
    def outgoing(self, item: Item, transfer_syntax: str) -> Iterator[tuple[DataSetStream, bool]]:
        """Yield the instance's data set in `transfer_syntax`, and whether it is marked as lossy.

        Raises:
            Permanent: the instance cannot be decoded.
            Transient: it cannot be decoded now.
            NotAsPinned: the file differs from its pin, or the decoded copy does not read back.
        """
        with tempfile.TemporaryDirectory(prefix="storestow-") as folder:
            target = Path(folder, "decoded.dcm")
            sha256, is_lossy = self._decode(item, target, Path(folder), transfer_syntax)
            with outgoing(target, sha256) as data:
                unlink(target)  # The open file can still be read, and after a crash no copy is left.
                yield data, is_lossy

    def _decode(self, item: Item, target: Path, scratch: Path, transfer_syntax: str) -> tuple[str, bool]:
        from pipeline.dicom.decoding import Decoded, DecodingTask, decode  # noqa: PLC0415  # the decoders' libraries come with it

        if not _is_as_pinned(item):
            raise NotAsPinned
        self._pool = self._pool or ProcessPool(1)
        task = DecodingTask(item.path, target, scratch, implicit=transfer_syntax == IMPLICIT)
        ((_, answer),) = self._pool.each(decode, [task], lambda task: to_encode(task.source))
        if isinstance(answer, Decoded):
            return answer.sha256, answer.is_lossy
        if isinstance(answer, Permanent):
            raise Permanent(f"the peer takes it uncompressed only, and {answer}")
        if isinstance(answer, StorestowError):
            raise answer
        if isinstance(answer, PoolProcessDied):
            raise Permanent(f"the peer takes it uncompressed only, and it cannot be decoded: {answer}")
        raise Transient("it could not be decoded now")


def _is_as_pinned(item: Item) -> bool:
    try:
        return sha256_of(item.path) == item.sha256
    except OSError:
        return False
