"""Read an instance's header as a pydicom data set, and write a file from a header and the bytes after it.

Bytes that no rule touched are copied, and never pass through an encoder: nothing can change silently
(docs/facts.md, Speed, has the cost of the alternative).
"""

import hashlib
import io
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pydicom.config
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import read_dataset
from pydicom.filewriter import write_data_element, write_dataset, write_file_meta_info
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from pipeline import __version__
from pipeline.dicom.attributes.elements import element_of, named, put
from pipeline.dicom.part10 import Bytes, DataSetLayout
from pipeline.errors import Permanent

IMPLEMENTATION_CLASS_UID = "2.25.292821506352129471893264758013245187613"  # PS3.5 B.2
IMPLEMENTATION_VERSION_NAME = f"STORESTOW_{__version__.replace('.', '')}"[:16]
PIECE = 1 << 20
Range = tuple[int, int]  # Start and end of bytes in the received file.
MOST_TRIED = 20_000  # Elements looked at for an error message.
# pydicom raises these when a malformed value is read.
UNREADABLE = (
    *(ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError),
    *(BytesLengthException, EOFError, OSError),
)

# The values of a modality are not ours to judge; values we write are validated where they are made.
pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
pydicom.config.settings.writing_validation_mode = pydicom.config.IGNORE


def read_header(data: Bytes, layout: DataSetLayout) -> Dataset:
    """Return everything before Pixel Data, with the file meta information; values are decoded on use only.

    Raises Permanent if pydicom reads other elements than the walk found: a file written from one reading would
    silently lack what the other saw.
    """
    header = _read(data, layout, layout.data_set, layout.header_end)
    header.file_meta = _meta(data, layout)
    # The walk knows the transfer syntax even if the file meta information is missing.
    header.file_meta.TransferSyntaxUID = UID(layout.transfer_syntax_uid)
    return header


def rest_of(data: Bytes, layout: DataSetLayout) -> Dataset | None:
    """Return what follows Pixel Data: padding, signatures, private groups; None if nothing does.

    Raises Permanent as `read_header` does.
    """
    pixels = layout.pixels
    if pixels is None or pixels.end >= layout.end:
        return None
    return _read(data, layout, pixels.end, layout.end)


def with_rest(header: Dataset, rest: Dataset | None) -> Dataset:
    """Return the header together with what follows Pixel Data."""
    if rest is None:
        return header
    whole = Dataset()
    for part in (header, rest):
        for tag in part.keys():  # noqa: SIM118  # iterating over the data set would decode its elements
            if element := element_of(part, tag):
                put(whole, element)
    implicit, little = header.original_encoding
    whole.set_original_encoding(implicit, little, header.original_character_set)
    whole.file_meta = header.file_meta
    return whole


def unreadable_in(data: Bytes, layout: DataSetLayout) -> str | None:
    """Return the name of the first attribute whose value pydicom cannot read, None if it can read all.

    Each element is read alone, up to a limit: the result is for an error message.
    """
    for tag, element in islice(layout.elements.items(), MOST_TRIED):
        if element is layout.pixels:
            continue
        try:
            alone = _read(data, layout, element.start, element.end)
            for _ in alone.iterall():  # each value is decoded
                pass
        except (*UNREADABLE, Permanent):
            return named(tag)
    return None


def _read(data: Bytes, layout: DataSetLayout, start: int, end: int) -> Dataset:
    read = read_dataset(
        io.BytesIO(data[start:end]),
        is_implicit_VR=not layout.explicit,
        is_little_endian=layout.little_endian,
    )
    walked = {tag for tag, element in layout.elements.items() if start <= element.start < end}
    if walked != {int(tag) for tag in read.keys()}:  # noqa: SIM118  # iterating would decode the elements
        raise Permanent("its elements can be read in two ways, because one of them has no valid VR or length")
    return read


def _meta(data: Bytes, layout: DataSetLayout) -> FileMetaDataset:
    if not layout.meta:
        return FileMetaDataset()
    start = min(element.start for element in layout.meta.values())
    meta = FileMetaDataset(
        read_dataset(io.BytesIO(data[start : layout.data_set]), is_implicit_VR=False, is_little_endian=True)
    )
    meta.pop(0x00020000, None)
    return meta


def write_instance(
    target: Path, data: Bytes, layout: DataSetLayout, header: Dataset, touched: frozenset[int]
) -> str:
    """Write the instance with the attributes `touched` taken from `header`; return the file's SHA-256.

    Every other element, and everything from Pixel Data on, is copied as received. A deflated data set is deflated
    again.
    """
    meta = file_meta(header, layout.transfer_syntax_uid)
    with target.open("wb") as file:
        hashing = _Hashing(file)
        _write_preamble(hashing, meta)
        is_deflated = layout.transfer_syntax_uid == DeflatedExplicitVRLittleEndian
        body: _Hashing | _Deflating = _Deflating(hashing) if is_deflated else hashing
        rest = (layout.header_end, layout.end)
        with memoryview(data) as view:
            for piece in _joined((*_header_pieces(layout, header, touched), rest)):
                if isinstance(piece, bytes):
                    body.write(piece)
                else:
                    _copy(view, piece, body.write)
        body.finish()
    return hashing.hexdigest()


def write_data_set(target: Path, data_set: Dataset) -> str:
    """Write a complete data set in the transfer syntax of its file meta information; return the file's SHA-256."""
    meta = file_meta(data_set, str(data_set.file_meta.TransferSyntaxUID))
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = True, False
    write_dataset(buffer, data_set)
    with target.open("wb") as file:
        hashing = _Hashing(file)
        _write_preamble(hashing, meta)
        hashing.write(buffer.getvalue())
    return hashing.hexdigest()


def file_meta(header: Dataset, transfer_syntax_uid: str) -> FileMetaDataset:
    """Return file meta information that says what the file is and that we wrote it (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.update(header.file_meta)
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def _write_preamble(target: "_Hashing", meta: FileMetaDataset) -> None:
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    target.write(b"\0" * 128 + b"DICM" + buffer.getvalue())


def _copy(view: memoryview, part: Range, write: Callable[[bytes | memoryview], None]) -> None:
    start, end = part
    for at in range(start, end, PIECE):
        with view[at : min(at + PIECE, end)] as piece:
            write(piece)


def _joined(pieces: Iterable[Range | bytes]) -> Iterator[Range | bytes]:
    """Yield the pieces with adjacent ranges joined: a header of hundreds of elements is copied in a few runs."""
    run: Range | None = None
    for piece in pieces:
        if isinstance(piece, bytes):
            if run:
                yield run
            run = None
            yield piece
        elif run and run[1] == piece[0]:
            run = (run[0], piece[1])
        else:
            if run:
                yield run
            run = piece
    if run:
        yield run


def _header_pieces(layout: DataSetLayout, header: Dataset, touched: frozenset[int]) -> Iterator[Range | bytes]:
    """Yield changed elements as bytes, all others as the range of bytes to copy."""
    new = {tag: _encoded(layout, header, tag) for tag in sorted(touched) if tag in header}
    in_order = deque(new)
    groups = {tag >> 16 for tag in touched}
    end = layout.header_end
    for tag, element in layout.elements.items():
        if element.start >= end:
            break
        while in_order and in_order[0] < tag:
            yield new.pop(in_order.popleft(), b"")
        # (gggg,0000) counts the bytes of a group that we change.
        is_stale_length = tag & 0xFFFF == 0 and tag >> 16 in groups
        if tag not in touched and not is_stale_length:
            yield element.start, element.end
        elif tag in new:
            yield new.pop(tag)
    yield from new.values()


def _encoded(layout: DataSetLayout, header: Dataset, tag: int) -> bytes:
    buffer = DicomBytesIO()
    buffer.is_little_endian, buffer.is_implicit_VR = layout.little_endian, not layout.explicit
    element = element_of(header, tag)  # The element is raw: whoever touched it made its bytes.
    assert element is not None
    write_data_element(buffer, element)
    return buffer.getvalue()


@dataclass
class _Hashing:
    """Write to a file and hash what was written."""

    file: BinaryIO

    def __post_init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def write(self, piece: bytes | memoryview) -> None:
        self._sha256.update(piece)
        self.file.write(piece)

    def finish(self) -> None:
        """Do nothing; only a deflated data set needs an end."""

    def hexdigest(self) -> str:
        return self._sha256.hexdigest()


class _Deflating:
    """Deflate written bytes (PS3.5 A.5); the level is fixed, so the same input gives the same bytes."""

    def __init__(self, target: _Hashing) -> None:
        self._target = target
        self._deflator = zlib.compressobj(6, zlib.DEFLATED, -zlib.MAX_WBITS)
        self._length = 0

    def write(self, piece: bytes | memoryview) -> None:
        piece = self._deflator.compress(piece)
        self._length += len(piece)
        self._target.write(piece)

    def finish(self) -> None:
        last = self._deflator.flush()
        self._target.write(last + b"\0" * ((self._length + len(last)) % 2))
