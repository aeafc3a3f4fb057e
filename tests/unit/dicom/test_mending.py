"""What is written wrongly and can be read in one way only leaves as the standard has it; nothing else does."""

import io
import struct
from pathlib import Path

import pydicom
import pytest
from support.hostile.hostile_files import EXPLICIT, IMPLICIT, UNDEFINED, element
from support.studies.odd_data_sets import (
    EVEN_FRAME,
    ITEM,
    ITEM_END,
    JPEG_2000,
    JPEG_LS,
    ODD_FRAME,
    RLE,
    SEQUENCE_END,
    SOP,
    file_of,
    fragments,
    implicit,
    mark,
    sequence,
    with_vr,
)

from pipeline.dicom import mending
from pipeline.dicom.part10 import Correction, Malformed
from pipeline.dicom.reading import data_set_of
from pipeline.dicom.walk import walk
from pipeline.line.identify import read


def mended(content: bytes, folder: Path) -> tuple[pydicom.Dataset, set[tuple[int, str]]]:
    """Return the data set as another reader finds it, and what was made right; the copy is well-formed."""
    path = folder / "file"
    path.write_bytes(content)
    with data_set_of(path, folder) as (data, layout):
        again = walk(bytes(data))
        assert not again.is_odd
        assert path.read_bytes() == content
        whole = pydicom.dcmread(io.BytesIO(bytes(data)))
        whole.decode()
        return whole, {(mend.tag, mend.correction) for mend in layout.mends}


def refused(content: bytes, folder: Path) -> str:
    path = folder / "file"
    path.write_bytes(content)
    problem = read(path, folder).problem
    assert problem is not None
    return problem


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


ENDS = {
    "a length that is none": (mark(SEQUENCE_END, UNDEFINED), b""),
    "a length of nothing": (mark(SEQUENCE_END, 4), b""),
    "a length, and the next element": (mark(SEQUENCE_END, 6), element(0xFFFCFFFC, b"OB", bytes(6))),
    "nothing": (b"", b""),
    "zeros": (bytes(8), b""),
    "a block of zeros": (bytes(512), b""),
    "two zeros": (bytes(2), b""),
    "the next element": (b"", element(0xFFFCFFFC, b"OB", bytes(6))),
}


@pytest.mark.parametrize("what", ENDS)
@pytest.mark.parametrize("frames", [1, 2])
@pytest.mark.parametrize("frame", [EVEN_FRAME, ODD_FRAME], ids=["even", "odd"])
def test_whole_pixels_get_the_end_they_lack(tmp_path, what, frames, frame):
    end, last = ENDS[what]
    content = file_of(syntax=JPEG_LS, pixels=fragments(*[frame] * frames, end=end), last=last, frames=frames)
    data_set, mends = mended(content, tmp_path)
    got = list(pydicom.encaps.generate_frames(data_set.PixelData, number_of_frames=frames))
    assert [one.rstrip(b"\0") for one in got] == [ODD_FRAME] * frames
    assert {words for _, words in mends} & {Correction.NO_END, Correction.END_WITH_LENGTH}


def test_a_delimiter_whose_length_may_be_true_is_no_oversight(tmp_path):
    """What follows it can be its value, and then the next element, or an element that holds that one."""
    hidden = element(0x7FE10010, b"LO", b"ACME")
    end = mark(SEQUENCE_END, len(hidden)) + hidden
    content = file_of(syntax=JPEG_LS, pixels=fragments(EVEN_FRAME, end=end), last=element(0xFFFCFFFC, b"OB", b""))
    assert "(FFFE,E0DD)" in refused(content, tmp_path)


@pytest.mark.parametrize("vr", [b"OW", b"UN", b"UT"])
def test_compressed_pixels_are_called_bytes_whatever_vr_they_had(tmp_path, vr):
    pixels = fragments(EVEN_FRAME).replace(b"OB", vr, 1)
    data_set, mends = mended(file_of(syntax=JPEG_LS, pixels=pixels), tmp_path)
    assert mends == {(0x7FE00010, Correction.NOT_BYTES)}
    assert data_set["PixelData"].VR == "OB"
    assert pydicom.encaps.get_frame(data_set.PixelData, 0, number_of_frames=1) == EVEN_FRAME


@pytest.mark.parametrize("vr", [b"UT", b"UC", b"UR"])
def test_a_text_without_a_length_is_refused(tmp_path, vr):
    assert "(0040,A160) has no length" in refused(file_of(sequence(0x0040A160, vr, CODE, known=True)), tmp_path)


@pytest.mark.parametrize("end", [b"", bytes(8)])
@pytest.mark.parametrize(
    ("pieces", "frames", "syntax"),
    [
        ([EVEN_FRAME[:20]], 1, JPEG_LS),  # cut within the frame
        ([EVEN_FRAME], 2, JPEG_LS),  # a frame is missing
        ([EVEN_FRAME, EVEN_FRAME], 1, JPEG_LS),  # one too many
        ([], 1, JPEG_LS),
        ([EVEN_FRAME], 1, RLE),  # nothing in it tells its end
        ([EVEN_FRAME], 1, "1.2.840.10008.1.2.4.102"),
    ],
)
def test_pixels_that_may_be_cut_are_set_aside_with_the_name_of_the_instance(tmp_path, end, pieces, frames, syntax):
    said = refused(file_of(syntax=syntax, pixels=fragments(*pieces, end=end), frames=frames), tmp_path)
    assert "nothing shows that they are whole" in said
    assert SOP in said


def test_an_odd_last_fragment_gets_its_padding(tmp_path):
    data_set, mends = mended(file_of(syntax=JPEG_LS, pixels=fragments(ODD_FRAME)), tmp_path)
    assert mends == {(0x7FE00010, Correction.ODD_FRAGMENT)}
    assert pydicom.encaps.get_frame(data_set.PixelData, 0, number_of_frames=1) == EVEN_FRAME


def test_padding_behind_a_fragment_that_nobody_counts_is_counted(tmp_path):
    pixels = fragments(ODD_FRAME, end=b"\0" + mark(ITEM, len(ODD_FRAME)) + EVEN_FRAME + mark(SEQUENCE_END))
    data_set, mends = mended(file_of(syntax=JPEG_LS, pixels=pixels, frames=2), tmp_path)
    assert mends == {(0x7FE00010, Correction.UNCOUNTED)}
    assert list(pydicom.encaps.generate_frames(data_set.PixelData, number_of_frames=2)) == [EVEN_FRAME] * 2


def test_where_an_offset_table_counts_only_the_last_fragment_gets_longer(tmp_path):
    table = struct.pack("<II", 0, 8 + len(ODD_FRAME))
    pixels = fragments(ODD_FRAME, ODD_FRAME).replace(mark(ITEM), mark(ITEM, 8) + table, 1)
    path = tmp_path / "file"
    path.write_bytes(file_of(syntax=JPEG_LS, pixels=pixels, frames=2))
    with data_set_of(path, tmp_path) as (data, layout):
        assert (
            len([mend for mend in layout.mends if mend.correction == Correction.ODD_FRAGMENT]) == 2
        )  # a length, a byte
        whole = pydicom.dcmread(io.BytesIO(bytes(data)))
    frames = list(pydicom.encaps.generate_frames(whole.PixelData, number_of_frames=2))
    assert frames == [ODD_FRAME, EVEN_FRAME]


CODE = element(0x00080100, b"SH", b"X1") + element(0x00080104, b"LO", b"A meaning ")
BARE_CODE = implicit(0x00080100, b"X1") + implicit(0x00080104, b"A meaning ")


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("tag", [0x00321064, 0x0029105F])
def test_items_in_explicit_vr_are_read_although_un_promises_implicit_ones(tmp_path, tag, known):
    creator = element(0x00290010, b"LO", b"ACME DATA ")
    data_set, mends = mended(file_of(creator, sequence(tag, b"UN", CODE, known=known)), tmp_path)
    assert mends == {(tag, Correction.OTHER_VR)}
    assert data_set[tag].VR == "SQ"
    assert data_set[tag].value[0].CodeMeaning == "A meaning"


@pytest.mark.parametrize("known", [True, False])
def test_items_of_un_that_are_as_the_standard_has_them_stay(tmp_path, known):
    data_set, mends = mended(file_of(sequence(0x00321064, b"UN", BARE_CODE, known=known)), tmp_path)
    assert mends == set()
    assert data_set.RequestedProcedureCodeSequence[0].CodeMeaning == "A meaning"


def test_items_in_implicit_vr_are_read_although_a_sequence_promises_explicit_ones(tmp_path):
    data_set, mends = mended(file_of(sequence(0x00321064, b"SQ", BARE_CODE, known=False)), tmp_path)
    assert mends == {(0x00321064, Correction.OTHER_VR)}
    assert data_set.RequestedProcedureCodeSequence[0].CodeMeaning == "A meaning"


NO_VRS = [b"  ", b"\0\0", b"--", b"lo", b"ox", b"??", b"ZZ", b"\xff\xff"]


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("vr", NO_VRS)
def test_an_element_whose_vr_is_none_keeps_its_value(tmp_path, vr, long):
    bad = [with_vr(0x00091001 + n, vr, b"hello!", long=long) for n in range(3)]
    name = with_vr(0x00100010, vr, b"ROE^RICHARD ", long=long)
    data_set, mends = mended(file_of(element(0x00090010, b"LO", b"ACME"), *bad, name), tmp_path)
    assert {tag for tag, _ in mends} == {0x00091001, 0x00091002, 0x00091003, 0x00100010}
    assert [data_set[0x00091001 + n].value for n in range(3)] == [b"hello!"] * 3
    assert (data_set["PatientName"].VR, data_set.PatientName) == ("PN", "ROE^RICHARD")


@pytest.mark.parametrize("tag", [0x00091001, 0x00100010, 0x00321060, 0x00280010])
def test_an_element_in_implicit_notation_gets_its_vr_and_nothing_beside_it_is_lost(tmp_path, tag):
    value = b"\x08\0" if tag == 0x00280010 else b"ROE^RICHARD "
    data_set, mends = mended(file_of(element(0x00090010, b"LO", b"ACME"), implicit(tag, value)), tmp_path)
    assert mends == {(tag, Correction.NO_VR)}
    assert data_set.PatientName == "ROE^RICHARD"
    assert (data_set.Rows, data_set.Columns, data_set.PatientID) == (8, 8, "P-0815")


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


@pytest.mark.parametrize("vr", [*NO_VRS, None])
def test_the_first_element_alone_may_have_no_vr(tmp_path, vr):
    term = implicit(0x00080005, b"ISO_IR 100") if vr is None else with_vr(0x00080005, vr, b"ISO_IR 100")
    data_set, mends = mended(file_of(term), tmp_path)
    assert mends == {(0x00080005, Correction.NO_VR)}
    assert data_set.SpecificCharacterSet == "ISO_IR 100"


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
