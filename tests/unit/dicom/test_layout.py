"""The layout of pixels is read from raw elements exactly as pydicom would decode them."""

import pytest
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.tag import BaseTag

from pipeline.dicom.attributes.elements import element_of
from pipeline.dicom.header import UNREADABLE
from pipeline.dicom.pixels import layout

ROWS, PHOTOMETRIC_INTERPRETATION, NUMBER_OF_FRAMES = 0x00280010, 0x00280004, 0x00280008


def header(tag: int, vr: str | None, value: bytes | None, *, little: bool) -> Dataset:
    length = len(value or b"")
    raw = RawDataElement(BaseTag(tag), vr, length, value, 0, vr is None, little)
    data_set = Dataset({raw.tag: raw})
    data_set.set_original_encoding(vr is None, little, "iso8859")
    return data_set


def decoded(data_set: Dataset, keyword: str) -> object:
    try:
        return data_set.get(keyword)
    except UNREADABLE:
        return None


@pytest.mark.parametrize("little", [True, False])
@pytest.mark.parametrize("vr", ["US", None, "SS", "UN", "OB", "IS"])
@pytest.mark.parametrize("value", [b"\x02\x01", b"\xff\xfe", b"", None, b"\x02", b"\x02\x01\x02\x01", b"12"])
@pytest.mark.parametrize(("tag", "keyword"), [(ROWS, "Rows"), (NUMBER_OF_FRAMES, "NumberOfFrames")])
def test_a_number_is_the_one_that_pydicom_decodes(tag, keyword, vr, value, little):
    expected = decoded(header(tag, vr, value, little=little), keyword)
    assert layout._value(header(tag, vr, value, little=little), keyword) == expected


@pytest.mark.parametrize("vr", ["CS", None, "UN", "LO"])
@pytest.mark.parametrize(
    "value", [b"MONOCHROME2 ", b"RGB\0", b" RGB", b"RGB\\RGB", b"", None, b"R\0GB ", b"\xff\xfe", b"rgb ", b"  "]
)
def test_a_word_is_the_one_that_pydicom_decodes(vr, value):
    expected = decoded(header(PHOTOMETRIC_INTERPRETATION, vr, value, little=True), "PhotometricInterpretation")
    found = layout._value(header(PHOTOMETRIC_INTERPRETATION, vr, value, little=True), "PhotometricInterpretation")
    strip = lambda said: said.strip() if isinstance(said, str) else said  # noqa: E731  # as the layout does
    assert strip(found) == strip(expected)


def test_what_is_read_usually_stays_raw():
    rows = header(ROWS, "US", b"\x02\x01", little=True)
    word = header(PHOTOMETRIC_INTERPRETATION, "CS", b"MONOCHROME2 ", little=True)
    assert layout._value(rows, "Rows") == 0x0102
    assert layout._value(word, "PhotometricInterpretation") == "MONOCHROME2 "
    assert isinstance(element_of(rows, ROWS), RawDataElement)
    assert isinstance(element_of(word, PHOTOMETRIC_INTERPRETATION), RawDataElement)
