"""Compare an instance we hold with the archive's copy under the same UID: do both hold the same instance?

Archives correct patients, requests and texts, and may write pixels in another transfer syntax. The UIDs name the
instance; its content is the pixels and the attributes that say how to read the pixels. For an object without
pixels the content is all attributes except those that archives correct. Other differences are noted.
"""

from pathlib import Path

from pydicom import Dataset
from pydicom.datadict import keyword_for_tag
from pydicom.dataelem import DataElement

from pipeline.dicom.attributes.declared_text import declared_by
from pipeline.dicom.attributes.elements import bytes_of, element_of
from pipeline.dicom.same_content import is_equal, opened, tags_of
from pipeline.dicom.same_pixels import are_same_pixels
from pipeline.model import ContentComparison

IDENTITY = frozenset({0x00080016, 0x00080018, 0x0020000D, 0x0020000E})  # SOP Class, SOP Instance, Study, Series
# PS3.3 C.7.6.3 except attributes that follow from the encoding or the pixels; C.7.6.6; and C.11.1, because a
# sample without its rescale is another number. `same_pixels` judges how the samples are written.
OF_PIXELS = frozenset(
    {
        *(0x00280002, 0x00280008, 0x00280010, 0x00280011, 0x00280034),
        *(0x00280100, 0x00280101, 0x00280102, 0x00280103),
        *(0x00281052, 0x00281053, 0x00283000),
        *(0x00281101, 0x00281102, 0x00281103, 0x00281201, 0x00281202, 0x00281203),
        *(0x00281221, 0x00281222, 0x00281223),
    }
)
CORRECTED_GROUPS = frozenset(
    {0x0002, 0x0008, 0x0010, 0x0032, 0x0038, 0x0400}
)  # Groups of identification, patient, visit and similar.
# In group 0040: scheduled and performed steps, requests, confidentiality; the content of reports is not in this
# list.
CORRECTED_OF_0040 = (range(0x0400), range(0x1000, 0x4000))
PIXEL_DATA = "PixelData"


def compared(pair: tuple[Path, Path]) -> ContentComparison:
    """Return whether our file and the archive's hold the same instance, and the keywords of what differs.

    Raises:
        Incomparable: one of the two cannot be read or decoded here, or is larger than 512 MiB.
        OSError: the disk cannot be read now.
    """
    with opened(pair) as ((ours, our_pixels), (theirs, their_pixels)):
        differing = _differing(ours, theirs)
        has_pixels = our_pixels.element is not None or their_pixels.element is not None
        decisive = {tag for tag in differing if _is_decisive(tag, has_pixels=has_pixels)}
        if decisive:
            return ContentComparison(is_same=False, differing=_keywords(decisive))
        if not are_same_pixels(our_pixels, their_pixels):
            return ContentComparison(is_same=False, differing=(PIXEL_DATA,))
        return ContentComparison(is_same=True, differing=_keywords(differing))


def _differing(ours: Dataset, theirs: Dataset) -> set[int]:
    """Return the tags that have a value in only one of the two data sets, or different values."""
    one, other = _tags_with_a_value(ours), _tags_with_a_value(theirs)
    sides = (ours, declared_by(ours)), (theirs, declared_by(theirs))
    return (one ^ other) | {tag for tag in one & other if not is_equal(tag, *sides)}


def _tags_with_a_value(data_set: Dataset) -> set[int]:
    return {tag for tag in tags_of(data_set) if not _is_empty(data_set, tag)}


def _is_empty(data_set: Dataset, tag: int) -> bool:
    element = element_of(data_set, tag)
    assert element is not None
    raw = bytes_of(element)
    return not raw.strip(b" \0") if raw is not None else isinstance(element, DataElement) and element.is_empty


def _is_decisive(tag: int, *, has_pixels: bool) -> bool:
    if has_pixels or tag in IDENTITY:
        return tag in IDENTITY | OF_PIXELS
    group, number = tag >> 16, tag & 0xFFFF
    is_corrected = group in CORRECTED_GROUPS or (group == 0x0040 and any(number in r for r in CORRECTED_OF_0040))
    return group % 2 == 0 and not is_corrected


def _keywords(tags: set[int]) -> tuple[str, ...]:
    return tuple(keyword_for_tag(tag) or f"{tag:08X}" for tag in sorted(tags))
