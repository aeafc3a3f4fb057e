"""What is written wrongly and can be read in one way only leaves as the standard has it; nothing else does."""

import io
import struct
from pathlib import Path

import pydicom
import pytest
from support.hostile.hostile_files import EXPLICIT, IMPLICIT, UNDEFINED, element
from support.studies.mended_files import mended, refused
from support.studies.odd_data_sets import (
    EVEN_FRAME,
    ITEM,
    ITEM_END,
    JPEG_2000,
    JPEG_LS,
    RLE,
    SEQUENCE_END,
    file_of,
    fragments,
    implicit,
    mark,
    with_vr,
)

from pipeline.dicom import mending
from pipeline.dicom.part10 import Correction, Malformed
from pipeline.dicom.walk import walk
from pipeline.line.identify import read


def test_what_is_well_formed_is_read_as_it_is(tmp_path):
    _, mends = mended(file_of(), tmp_path)
    assert mends == set()


FOREIGN = {
    "one element": element(0x00020010, b"UI", JPEG_2000.encode()),
    "a whole group": element(0x00020000, b"UL", bytes(4))
    + element(0x00020001, b"OB", b"\0\1")
    + element(0x00020010, b"UI", JPEG_2000.encode()),
    "one that goes on where the file's own ends": element(0x00020102, b"OB", b"private "),
    "one without VR": implicit(0x00020010, JPEG_2000.encode()),
    "a command": implicit(0x00000000, struct.pack("<I", 40)) + implicit(0x00000002, b"1.2.840.10008.5.1.4.1.1.7"),
    "what a program makes of zeros": element(0x00000000, b"UL", b""),
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT])
@pytest.mark.parametrize("what", FOREIGN)
@pytest.mark.parametrize("where", ["first", "last"])
def test_file_meta_information_within_the_data_set_decides_nothing_and_is_left_out(tmp_path, syntax, what, where):
    data_set, mends = mended(file_of(syntax=syntax, **{where: FOREIGN[what]}), tmp_path)
    assert data_set.file_meta.TransferSyntaxUID == syntax
    assert {words for _, words in mends} == {Correction.FOREIGN}
    assert not [tag for tag in data_set.keys() if tag.group in {0, 2}]  # noqa: SIM118
    assert (data_set.PatientName, data_set.PixelData) == ("ROE^RICHARD", bytes(64))
    assert read(tmp_path / "file", tmp_path).transfer_syntax_uid == syntax


def test_file_meta_information_before_the_elements_of_big_endian_is_left_out(tmp_path):
    source = pydicom.dcmread(pydicom.data.get_testdata_file("MR_small_bigendian.dcm"))
    content = Path(pydicom.data.get_testdata_file("MR_small_bigendian.dcm")).read_bytes()
    at = walk(content).data_set
    own = struct.pack(">HH2sH", 2, 0x10, b"UI", 18) + b"1.2.840.10008.1.2\0"
    data_set, mends = mended(content[:at] + own + content[at:], tmp_path)
    assert mends == {(0x00020010, Correction.FOREIGN)}
    assert data_set.PixelData == source.PixelData


@pytest.mark.parametrize("zeros", [1, 2, 3, 4, 7, 8, 13, 512, 1 << 20])
def test_zeros_behind_the_last_element_are_left_out(tmp_path, zeros):
    data_set, mends = mended(file_of(last=bytes(zeros)), tmp_path)
    assert mends == {(0x7FE00010, Correction.PADDING)}
    assert len(data_set.PixelData) == 64


@pytest.mark.parametrize("zeros", [1, 2, 3, 9])
def test_the_padding_of_odd_pixels_is_counted(tmp_path, zeros):
    nine = b"ABCDEFGHI"
    odd = with_vr(0x7FE00010, b"OB", nine, long=True)
    data_set, mends = mended(file_of(pixels=odd, last=bytes(zeros)), tmp_path)
    assert data_set.PixelData == nine + b"\0"
    assert (0x7FE00010, Correction.UNCOUNTED) in mends


def test_a_big_endian_file_cut_within_a_tag_is_not_taken_for_padded(tmp_path):
    content = Path(pydicom.data.get_testdata_file("MR_small_bigendian.dcm")).read_bytes()
    patient = walk(content).elements[0x00100010].start
    assert content[patient] == 0
    assert "truncated" in refused(content[: patient + 1], tmp_path)


STRAY = {
    "an empty sequence": element(0x00081140, b"SQ", b""),
    "a sequence of known length": element(
        0x00081140, b"SQ", mark(ITEM, 14) + element(0x00080100, b"SH", b"X12345")
    ),
    "the same as UN": element(0x00081140, b"UN", mark(ITEM, 14) + implicit(0x00080100, b"X12345")),
}


@pytest.mark.parametrize("length", [0, UNDEFINED])
@pytest.mark.parametrize("what", STRAY)
def test_a_delimiter_behind_a_sequence_of_known_length_is_left_out(tmp_path, what, length):
    data_set, mends = mended(file_of(STRAY[what] + mark(SEQUENCE_END, length)), tmp_path)
    assert mends == {(0x00081140, Correction.STRAY)}
    assert len(data_set.ReferencedImageSequence) == (what != "an empty sequence")


def test_it_is_left_out_within_an_item_too(tmp_path):
    inner = STRAY["a sequence of known length"] + mark(SEQUENCE_END)
    outer = with_vr(0x00400275, b"SQ", b"", long=True)[:-4] + struct.pack("<I", UNDEFINED)
    content = outer + mark(ITEM, UNDEFINED) + inner + mark(ITEM_END) + mark(SEQUENCE_END)
    data_set, mends = mended(file_of(content), tmp_path)
    assert mends == {(0x00400275, Correction.STRAY)}
    assert len(data_set.RequestAttributesSequence[0].ReferencedImageSequence) == 1


def test_a_delimiter_anywhere_else_is_no_oversight(tmp_path):
    name = element(0x00080070, b"LO", b"Maker ")
    assert "(FFFE,E0DD), which delimits items" in refused(file_of(name + mark(SEQUENCE_END)), tmp_path)


def test_what_can_be_read_in_two_ways_is_set_aside(tmp_path):
    """A length of 16 bits that ends where an element begins, and one of 32 that ends where another one does."""
    inner = element(0x000A0001, b"LO", b"inner!")
    value = struct.pack("<I", len(inner) + 2)[:2] + b"\0\0" + b"xx" + inner  # read as: 2 bytes, or all of them
    two = struct.pack("<HH2sH", 9, 0x1001, b"--", 0) + struct.pack("<I", len(inner)) + inner
    assert "nothing tells its length" in refused(file_of(with_vr(0x00091001, b"--", value)[:-4]), tmp_path)
    said = refused(file_of(two + b"xx"), tmp_path)
    assert "(0009,1001) has no valid VR, and nothing tells its length" in said


def test_the_length_of_a_group_that_is_otherwise_written_is_left_out(tmp_path):
    length = element(0x00090000, b"UL", struct.pack("<I", 26))
    creator, bad = element(0x00090010, b"LO", b"ACME"), with_vr(0x00091001, b"--", b"hello!")
    data_set, mends = mended(file_of(length, creator, bad), tmp_path)
    assert (0x00090000, Correction.STALE_LENGTH) in mends
    assert 0x00090000 not in data_set


def test_an_implicit_data_set_that_is_called_explicit_is_not_made_right_element_by_element(tmp_path):
    content = file_of(syntax=IMPLICIT).replace(
        element(0x00020010, b"UI", IMPLICIT.encode()), element(0x00020010, b"UI", EXPLICIT.encode())
    )
    assert "not encoded as its transfer syntax says" in refused(content, tmp_path)


def test_an_attribute_that_is_there_twice_is_never_chosen(tmp_path):
    twice = element(0x00080070, b"LO", b"One maker ") + element(0x00080070, b"LO", b"Another one ")
    assert "(0008,0070) appears twice" in refused(file_of(twice), tmp_path)


def test_more_than_can_be_an_oversight_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(mending, "MOST_MENDS", 5)
    bad = [with_vr(0x00091001 + n, b"--", b"hello!") for n in range(6)]
    assert "more than 5 elements" in refused(file_of(*bad), tmp_path)


@pytest.mark.parametrize("cut", range(1, 90, 7))
def test_what_is_cut_is_not_made_whole(tmp_path, cut):
    content = file_of(with_vr(0x00091001, b"--", b"hello!"), pixels=element(0x7FE00010, b"OB", b"A" * 64))
    with pytest.raises(Malformed):
        mending.mended(content[:-cut], io.BytesIO())


@pytest.mark.parametrize(
    ("pixels", "syntax", "words"),
    [
        (
            fragments(EVEN_FRAME),
            EXPLICIT,
            "its pixels are compressed, and its transfer syntax, 1.2.840.10008.1.2.1,",
        ),
        (element(0x7FE00010, b"OB", bytes(64)), JPEG_LS, "its pixels are not compressed, and its transfer syntax"),
        (element(0x7FE00010, b"OB", bytes(64)), RLE, "its pixels are not compressed, and its transfer syntax"),
    ],
)
def test_pixels_that_are_not_what_the_transfer_syntax_says_are_told_as_that(tmp_path, pixels, syntax, words):
    assert words in refused(file_of(syntax=syntax, pixels=pixels), tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"README for the viewer\r\n\r\nInsert the disc and wait.",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"PK\3\4" + bytes(60),
        bytes(4096),
        b"{}",
        b"x",
        b"[autorun]\r\nopen=viewer.exe\r\n" * 20,
    ],
)
def test_a_file_of_another_kind_is_called_no_dicom_file(tmp_path, content):
    assert refused(content, tmp_path) == "not a DICOM file"
