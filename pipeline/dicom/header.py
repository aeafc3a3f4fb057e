"""Read an instance's header as a pydicom data set, and write a file from a header and the bytes after it.

Bytes that no rule touched are copied, and never pass through an encoder: nothing can change silently
(docs/facts.md, Speed, has the cost of the alternative).
"""

import functools
import hashlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import compress, islice
from operator import itemgetter
from pathlib import Path
from typing import BinaryIO

import pydicom.config
from pydicom import Dataset
from pydicom.charset import convert_encodings, default_encoding
from pydicom.dataelem import DataElement, RawDataElement, convert_raw_data_element
from pydicom.dataset import FileMetaDataset
from pydicom.errors import BytesLengthException
from pydicom.filebase import DicomBytesIO
from pydicom.filereader import data_element_generator
from pydicom.filewriter import write_dataset, write_file_meta_info
from pydicom.tag import BaseTag
from pydicom.uid import UID

from pipeline import __version__
from pipeline.dicom.attributes.elements import (
    SPECIFIC_CHARACTER_SET,
    element_of,
    elements_of,
    encoded,
    named,
    unread_of,
)
from pipeline.dicom.attributes.unread_elements import UnreadElements
from pipeline.dicom.part10 import Bytes, DataSetLayout, Element, text_of
from pipeline.dicom.walk import walk_meta
from pipeline.errors import Permanent

IMPLEMENTATION_CLASS_UID = "2.25.292821506352129471893264758013245187613"  # PS3.5 B.2
IMPLEMENTATION_VERSION_NAME = f"STORESTOW_{__version__.replace('.', '')}"[:16]
_UID = re.compile(rb"[0-9.]{1,64}")
_FILE_META_WE_WRITE = frozenset({0x00020001, 0x00020002, 0x00020003, 0x00020010, 0x00020012, 0x00020013})
SOP_CLASS_UID, SOP_INSTANCE_UID, TRANSFER_SYNTAX_UID = 0x00080016, 0x00080018, 0x00020010
LAST_GROUP_WITH_LENGTH = 0x0006  # In later groups Group Length is retired (PS3.5 7.2), and is not written.
META_LENGTH = 0x00020000  # (0002,0000) File Meta Information Group Length
_MOST_REMEMBERED = 4096  # Bytes of a sender's file meta information; a private element may have any length.
_UNDEFINED_LENGTH = itemgetter(Element._fields.index("undefined_length"))
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
    """Return what `read_attributes` does, with the file meta information; raises Permanent as it does."""
    header = read_attributes(data, layout)
    add_file_meta(header, data, layout)
    return header


def read_attributes(data: Bytes, layout: DataSetLayout) -> Dataset:
    """Return everything before Pixel Data; values are decoded on use only.

    Raises Permanent if pydicom reads other elements than the walk found: a file written from one reading would
    silently lack what the other saw.
    """
    return _read(data, layout, layout.data_set, layout.header_end)


def add_file_meta(header: Dataset, data: Bytes, layout: DataSetLayout) -> None:
    """Give a header the file meta information that was received with it."""
    header.file_meta = _meta(data[: layout.data_set], layout.meta)
    if text_of(data, layout.meta.get(TRANSFER_SYNTAX_UID)) != layout.transfer_syntax_uid:
        # The walk knows the transfer syntax even if the file meta information is missing.
        header.file_meta.TransferSyntaxUID = UID(layout.transfer_syntax_uid)


def rest_of(data: Bytes, layout: DataSetLayout) -> Dataset | None:
    """Return the elements after Pixel Data: padding, signatures, private groups; None if there are none.

    Raises Permanent as `read_header` does.
    """
    pixels = layout.pixels
    if pixels is None or pixels.end >= layout.end:
        return None
    return _read(data, layout, pixels.end, layout.end)


def with_rest(header: Dataset, rest: Dataset | None) -> Dataset:
    """Return the header together with the elements after Pixel Data."""
    if rest is None:
        return header
    elements = unread_of(header)
    assert elements is not None, "it was read here"
    both = elements.copied()
    both.update((element.tag, element) for _, element in elements_of(rest))
    whole = Dataset(both)
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
    if start > layout.data_set:  # Few elements follow Pixel Data, and many stand before it.
        inside = {tag: layout.elements[tag] for tag in reversed(list(_from(layout, start)))}
    else:
        inside = dict(layout.elements)
    for tag in _from(layout, end):
        del inside[tag]
    undefined = list(compress(inside, map(_UNDEFINED_LENGTH, inside.values())))
    implicit, little = not layout.explicit, layout.little_endian
    elements = UnreadElements(data[start:end], start, inside, (implicit, little))
    encodings = _encodings_of(elements.get(BaseTag(SPECIFIC_CHARACTER_SET)))
    for tag in undefined:  # How pydicom reads its value depends on the value.
        elements[BaseTag(tag)] = _read_alone(data, layout.elements[tag], (implicit, little), encodings)
    read = Dataset(elements)
    read.set_original_encoding(implicit, little, encodings)
    return read


def _from(layout: DataSetLayout, position: int) -> Iterator[int]:
    """Yield the tags of the elements that begin at a position of the file or behind it, the last one first."""
    for tag, element in reversed(layout.elements.items()):
        if element.start < position:
            return
        yield tag


def _encodings_of(declaration: RawDataElement | DataElement | None) -> str | list[str]:
    """Return Python's encodings for a Specific Character Set, as pydicom wants them."""
    if not isinstance(declaration, RawDataElement):
        return default_encoding if declaration is None else convert_encodings(None)
    if declaration.length > _MOST_REMEMBERED:
        return convert_encodings(convert_raw_data_element(declaration).value)
    return list(_encodings_declared(declaration._replace(value_tell=0)))


@functools.lru_cache(maxsize=64)
def _encodings_declared(declaration: RawDataElement) -> tuple[str, ...]:
    return tuple(convert_encodings(convert_raw_data_element(declaration).value))


def _read_alone(
    data: Bytes, element: Element, encoding: tuple[bool, bool], encodings: str | list[str]
) -> RawDataElement | DataElement:
    implicit, little = encoding
    stream = io.BytesIO(data[element.start : element.end])
    read = list(data_element_generator(stream, implicit, little, encoding=encodings))
    if [int(found.tag) for found in read] != [element.tag]:
        raise Permanent("its elements can be read in two ways, because one of them has no valid VR or length")
    return read[0]


def _meta(data: bytes, meta: dict[int, Element]) -> FileMetaDataset:
    encoding = (False, True)  # PS3.10 7.1: Explicit VR Little Endian.
    elements = UnreadElements(data, 0, dict(meta), encoding)
    for tag, element in meta.items():
        if element.undefined_length:
            elements[BaseTag(tag)] = _read_alone(data, element, encoding, default_encoding)
    return FileMetaDataset({BaseTag(tag): elements[BaseTag(tag)] for tag in meta if tag != META_LENGTH})


def write_data_set(target: Path, data_set: Dataset) -> str:
    """Write a complete data set in the transfer syntax of its file meta information; return the file's SHA-256."""
    content = _in_explicit_vr(data_set)
    with target.open("wb") as file:
        hashing = HashedWriter(file)
        hashing.write(preamble(data_set, str(data_set.file_meta.TransferSyntaxUID)))
        hashing.write(content)
    return hashing.hexdigest()


def _in_explicit_vr(data_set: Dataset) -> bytes:
    """Return a data set in Explicit VR Little Endian, as pydicom writes it.

    pydicom takes a hundred times as long for an element that it has not decoded, and writes the same bytes.
    """
    as_received = data_set.original_character_set == data_set._character_set  # noqa: SLF001  # as pydicom's writer asks
    if data_set.original_encoding != (False, True) or not as_received:
        buffer = DicomBytesIO()
        buffer.is_little_endian, buffer.is_implicit_VR = True, False
        write_dataset(buffer, data_set)
        return buffer.getvalue()
    encodings = data_set.get("SpecificCharacterSet", default_encoding)
    unread = unread_of(data_set)
    as_they_are = unread is not None and unread.encoding == (False, True)
    return b"".join(
        element if isinstance(element, bytes) else encoded(element, False, True, encodings)
        for tag, element in (unread.in_order() if unread and as_they_are else elements_of(data_set))
        if tag & 0xFFFF or tag >> 16 <= LAST_GROUP_WITH_LENGTH
    )


def file_meta(header: Dataset, transfer_syntax_uid: str) -> FileMetaDataset:
    """Return file meta information for `header`, with this program as its writer (PS3.10 7.1)."""
    meta = FileMetaDataset()
    meta.update(header.file_meta)
    meta.FileMetaInformationVersion = b"\0\1"
    meta.MediaStorageSOPClassUID = header.SOPClassUID
    meta.MediaStorageSOPInstanceUID = header.SOPInstanceUID
    meta.TransferSyntaxUID = UID(transfer_syntax_uid)
    meta.ImplementationClassUID = UID(IMPLEMENTATION_CLASS_UID)
    meta.ImplementationVersionName = IMPLEMENTATION_VERSION_NAME
    return meta


def preamble(header: Dataset, transfer_syntax_uid: str) -> bytes:
    """Return preamble and file meta information, which the instances of a study share but for one UID."""
    meta = header.file_meta
    wanted = [element_of(meta, tag) for tag in meta.keys() if tag not in _FILE_META_WE_WRITE]  # noqa: SIM118  # iterating would decode the elements
    kept = [encoded(element, False, True) for element in wanted if isinstance(element, RawDataElement)]
    usual = _usual_preamble(header, b"".join(kept), transfer_syntax_uid) if len(kept) == len(wanted) else None
    return usual or _preamble_of(file_meta(header, transfer_syntax_uid))


def preamble_of_copy(header: Dataset, data: Bytes, layout: DataSetLayout) -> bytes:
    """Return what `preamble` does for the received header, which need not have its file meta information."""
    kept = [
        element for tag, element in layout.meta.items() if tag not in _FILE_META_WE_WRITE and tag != META_LENGTH
    ]
    if not any(element.undefined_length for element in kept):
        content = b"".join([data[element.start : element.end] for element in kept])
        if usual := _usual_preamble(header, content, layout.transfer_syntax_uid):
            return usual
    add_file_meta(header, data, layout)
    return preamble(header, layout.transfer_syntax_uid)


def _usual_preamble(header: Dataset, kept: bytes, transfer_syntax_uid: str) -> bytes | None:
    """Return preamble and file meta information with the elements `kept`, None if they must be made anew."""
    uid, sop_class = _uid_in(header, SOP_INSTANCE_UID), _uid_in(header, SOP_CLASS_UID)
    if not (uid and sop_class) or len(kept) > _MOST_REMEMBERED:
        return None
    before, after = _around_uid(kept, sop_class.decode("ascii"), len(uid), transfer_syntax_uid)
    return before + uid + after


def _uid_in(header: Dataset, tag: int) -> bytes:
    """Return a UID as received, without padding; nothing if it is none, or pydicom has decoded it."""
    element = element_of(header, tag)
    value = element.value.rstrip(b"\0") if isinstance(element, RawDataElement) and element.value else b""
    return value if _UID.fullmatch(value) else b""


@functools.lru_cache(maxsize=64)
def _around_uid(kept: bytes, sop_class_uid: str, length: int, transfer_syntax_uid: str) -> tuple[bytes, bytes]:
    """Return the bytes before and after a Media Storage SOP Instance UID of this length."""
    alike = Dataset()
    alike.SOPClassUID, alike.SOPInstanceUID = UID(sop_class_uid), UID("0" * length)
    alike.file_meta = _meta(kept, walk_meta(kept, 0)[0])
    whole = _preamble_of(file_meta(alike, transfer_syntax_uid))
    value = walk_meta(whole, 132)[0][0x00020003].value
    return whole[:value], whole[value + length :]


def _preamble_of(meta: FileMetaDataset) -> bytes:
    """Return preamble and file meta information as pydicom writes it, walked as a reader will.

    Raises Permanent if the data set would begin elsewhere, or be read in another transfer syntax.
    """
    buffer = DicomBytesIO()
    write_file_meta_info(buffer, meta)
    whole = b"\0" * 128 + b"DICM" + buffer.getvalue()
    walked, end = walk_meta(whole, 132)
    if end != len(whole) or text_of(whole, walked.get(TRANSFER_SYNTAX_UID)) != meta.TransferSyntaxUID:
        raise Permanent("what was written does not read back: its file meta information is not as it was made")
    return whole


@dataclass
class HashedWriter:
    """Write to a file and hash what was written."""

    file: BinaryIO

    def __post_init__(self) -> None:
        self._sha256 = hashlib.sha256()

    def write(self, piece: bytes | memoryview) -> None:
        """Write a piece and hash it."""
        self._sha256.update(piece)
        self.file.write(piece)

    def finish(self) -> None:
        """Do nothing; only a deflated data set needs an end."""

    def hexdigest(self) -> str:
        """Return the SHA-256 of what was written so far."""
        return self._sha256.hexdigest()
