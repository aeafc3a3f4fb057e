"""An image without compression has the pixels its attributes describe, or lacks some."""

import pytest
from support.hostile.hostile_files import EXPLICIT, IMPLICIT, element
from support.studies.odd_data_sets import JPEG_LS, file_of, fragments, implicit

from pipeline.dicom.promised_pixels import lacks_pixels
from pipeline.dicom.walk import walk

COLOUR = (element(0x00280002, b"US", b"\3\0"), element(0x00280004, b"CS", b"YBR_FULL_422"))
BITS = element(0x00280100, b"US", b"\1\0")
NO_IMAGE = (element(0x00280010, b"US", b""), element(0x00280011, b"US", b""))


def pixels(length: int, vr: bytes = b"OW") -> bytes:
    return element(0x7FE00010, vr, bytes(length))


@pytest.mark.parametrize(
    ("lacks", "more", "keys"),
    [
        (False, (), {}),
        (False, (), {"syntax": IMPLICIT}),
        (True, (), {"pixels": pixels(62)}),
        (True, (), {"pixels": pixels(66)}),
        (True, (), {"pixels": b""}),
        (True, (), {"pixels": pixels(64), "frames": 2}),
        (False, (), {"pixels": pixels(128), "frames": 2}),
        (False, COLOUR, {"pixels": pixels(128)}),
        (True, COLOUR, {"pixels": pixels(192)}),
        (False, (BITS,), {"pixels": pixels(8)}),
        (False, NO_IMAGE, {"pixels": b""}),
        (False, (), {"pixels": fragments(b"abcd"), "syntax": JPEG_LS}),
    ],
)
def test_pixels_are_counted_where_they_can_be(lacks, more, keys):
    content = file_of(*more, **keys)
    assert lacks_pixels(content, walk(content)) is lacks


def test_an_odd_number_of_pixels_may_be_padded():
    three = element(0x00280010, b"US", b"\3\0"), element(0x00280011, b"US", b"\3\0")
    content = file_of(*three, pixels=pixels(9))
    assert walk(content).elements[0x7FE00010].end % 2 == 0
    assert not lacks_pixels(content, walk(content))


@pytest.mark.parametrize(
    "content",
    [file_of(*NO_IMAGE, syntax=EXPLICIT), file_of(implicit(0x00280010, b""), syntax=IMPLICIT)],
)
def test_rows_without_a_number_make_no_image(content):
    assert not lacks_pixels(content, walk(content))
