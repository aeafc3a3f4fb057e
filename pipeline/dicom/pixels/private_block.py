"""Our private block: a description of Pixel Data before it was encoded (docs/private-block.md)."""

from collections.abc import Iterable

from pydicom import DataElement, Dataset
from pydicom.tag import Tag

from pipeline.dicom.encodings import NotEncoded

GROUP = 0x0099
CREATOR = "STORESTOW 1.0"
BLOCKS = range(0x10, 0x100)  # PS3.5 7.8.1


def write(dataset: Dataset, elements: Iterable[tuple[int, str, object]]) -> None:
    """Write `elements` (last byte of the tag, VR, value) into our block, replacing earlier ones of ours.

    Raises:
        NotEncoded: other creators hold every block of the group.
    """
    block = _ours(dataset)
    if block is None:
        block = _free(dataset)
    for tag in _within(dataset, block):
        del dataset[tag]
    dataset.add(DataElement(Tag(GROUP, block), "LO", CREATOR))
    for number, vr, value in elements:
        dataset.add(DataElement(Tag(GROUP, block << 8 | number), vr, value))


def _ours(dataset: Dataset) -> int | None:
    return next((block for block in BLOCKS if _creator(dataset, block) == CREATOR), None)


def _free(dataset: Dataset) -> int:
    for block in BLOCKS:  # Elements without a creator belong to somebody, too.
        if (GROUP, block) not in dataset and not _within(dataset, block):
            return block
    raise NotEncoded("no private block is free")


def _within(dataset: Dataset, block: int) -> list[int]:
    start = GROUP << 16 | block << 8
    return [tag for tag in dataset.keys() if start <= tag <= start + 0xFF]  # noqa: SIM118 - values stay raw


def _creator(dataset: Dataset, block: int) -> str | None:
    if (GROUP, block) not in dataset:
        return None
    value = dataset.get_item((GROUP, block)).value
    return value.decode("latin-1").strip(" \0") if isinstance(value, bytes) else str(value)
