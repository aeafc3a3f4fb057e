"""Replace Pixel Data by encoded frames, and the attributes that describe it (PS3.5 A.4).

A private block of ours says what Pixel Data was before it was encoded (docs/private-block.md).
"""

from collections.abc import Iterable

from pydicom import DataElement, Dataset
from pydicom.datadict import dictionary_VR
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.tag import Tag

from pipeline.dicom.attributes.elements import element_of, numbers_of
from pipeline.dicom.encodings import Encoded, NotEncoded
from pipeline.dicom.pixels.transcription import transcribed

GROUP = 0x0099
CREATOR = "STORESTOW 1.0"
BLOCKS = range(0x10, 0x100)  # PS3.5 7.8.1
STALE = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths", "EncapsulatedPixelDataValueTotalLength")


def attach(dataset: Dataset, encoded: Encoded) -> Dataset:
    """Return a copy of `dataset` with `encoded` as its Pixel Data, ready for `dcmwrite`.

    One fragment a frame; the Basic Offset Table is filled. `dataset` is the data set `encoded` was made from,
    including everything after Pixel Data; it stays unchanged. Other attributes stay: private elements, Lossy Image
    Compression, ICC Profile.

    Raises:
        NotEncoded: the data set cannot be written in Explicit VR Little Endian without risk to a value.
    """
    result = transcribed(dataset)
    for keyword in STALE:
        if keyword in result:
            del result[keyword]
    for keyword, value in encoded.attributes.items():
        if value is not None:
            # The old element belongs to `dataset`, too.
            result.add(DataElement(keyword, dictionary_VR(keyword), value))
        elif keyword in result:
            del result[keyword]
    write_private_block(result, _pixel_account(dataset, encoded))
    result.add(_pixel_data(encoded))
    result.file_meta = FileMetaDataset()
    result.file_meta.update(dataset.file_meta)
    result.file_meta.add(DataElement("TransferSyntaxUID", "UI", encoded.transfer_syntax_uid))
    result.preamble = getattr(dataset, "preamble", None)
    return result


def _pixel_data(encoded: Encoded) -> DataElement:
    element = DataElement("PixelData", "OB", encapsulate(list(encoded.frames), has_bot=True))
    element.is_undefined_length = True
    return element


def _pixel_account(dataset: Dataset, encoded: Encoded) -> list[tuple[int, str, object]]:
    account: list[tuple[int, str, object]] = [
        (0x01, "UL", encoded.pixel_length),
        (0x02, "LO", encoded.pixel_md5),
        (0x03, "UI", dataset.file_meta.TransferSyntaxUID),
        (0x04, "CS", dataset.PhotometricInterpretation),
    ]
    if "PlanarConfiguration" in encoded.attributes:
        account.append((0x05, "US", dataset.PlanarConfiguration))
    if encoded.pixel_vr:
        account.append((0x06, "CS", encoded.pixel_vr))
    return account


def write_private_block(dataset: Dataset, elements: Iterable[tuple[int, str, object]]) -> None:
    """Write `elements` (last byte of the tag, VR, value) into our block, replacing earlier ones of ours.

    Raises:
        NotEncoded: other creators hold every block of the group.
    """
    reserved = (tag & 0xFFFF for tag in _tags_in_group(dataset))
    blocks = [block for block in reserved if block in BLOCKS and _creator_of_block(dataset, block) == CREATOR]
    block = min(blocks, default=None)
    if block is None:
        block = _free_block(dataset)
    for tag in _tags_in_block(dataset, block):
        del dataset[tag]
    dataset.add(DataElement(Tag(GROUP, block), "LO", CREATOR))
    for number, vr, value in elements:
        dataset.add(DataElement(Tag(GROUP, block << 8 | number), vr, value))


def _free_block(dataset: Dataset) -> int:
    for block in BLOCKS:  # Elements without a creator belong to somebody, too.
        if (GROUP, block) not in dataset and not _tags_in_block(dataset, block):
            return block
    raise NotEncoded("no private block is free")


def _tags_in_block(dataset: Dataset, block: int) -> list[int]:
    return [tag for tag in _tags_in_group(dataset) if tag >> 8 & 0xFF == block]


def _tags_in_group(dataset: Dataset) -> list[int]:
    # As plain numbers, because pydicom compares tags in Python.
    return [int(tag) for tag in numbers_of(dataset) if tag >> 16 == GROUP]


def _creator_of_block(dataset: Dataset, block: int) -> str | None:
    element = element_of(dataset, GROUP << 16 | block)
    if element is None:
        return None
    value = element.value
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else str(value)
