"""An AE title is read in one way, of a request and of a file; an image lacks pixels if its attributes say so."""

import pytest
from support.hostile.hostile_files import EXPLICIT, IMPLICIT, element
from support.studies.odd_data_sets import JPEG_LS, file_of, fragments, implicit

from pipeline.dicom.part10 import ae_title, lacks_pixels
from pipeline.dicom.walk import walk


@pytest.mark.parametrize(
    ("value", "title"),
    [
        (b"CT 1            ", "CT 1"),
        (b"  CT1           ", "CT1"),
        (b"CT1".ljust(16, b"\0"), "CT1"),
        (b"CT1\0WAS HERE    ", "CT1"),
        (b"CT1 \0           ", "CT1"),
        (b"CT1\r\n           ", "CT1"),
        (b"CT1\r\nELSE       ", "CT1"),
        (b"CT1\tELSE         ", "CT1"),
        (b"\tCT1             ", "CT1"),
        (b"CT1\x1b[31m       ", "CT1"),
        (b"CT1\x7f            ", "CT1"),
        ("MÜLLER".encode("latin-1").ljust(16), "MÜLLER"),
        ("MÜLLER".encode().ljust(15), "MÜLLER"),
        (b"CT\x85\xa01        ", "CT??1"),
        (b"$(id)`;|&\"'\\    ", "$(id)`;|&\"'\\"),
    ],
)
def test_a_title_ends_where_its_sender_meant_it_to_end(value, title):
    assert ae_title(value) == title


@pytest.mark.parametrize("value", [b"", b" " * 16, b"\0" * 16, b"\0CT1", b"\r\n".ljust(16), b"\x01CT1", b"\t \0"])
def test_what_says_nothing_is_no_title(value):
    assert ae_title(value) == ""


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
