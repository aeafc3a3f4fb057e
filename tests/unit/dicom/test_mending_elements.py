"""Wrong VRs and items, and Pixel Data without its end, are mended where they can be read in one way only."""

import io
import struct

import pydicom
import pytest
from support.hostile.hostile_files import UNDEFINED, element
from support.studies.mended_files import mended, refused
from support.studies.odd_data_sets import (
    EVEN_FRAME,
    ITEM,
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

from pipeline.dicom.part10 import Correction
from pipeline.dicom.reading import data_set_of

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


@pytest.mark.parametrize("vr", [*NO_VRS, None])
def test_the_first_element_alone_may_have_no_vr(tmp_path, vr):
    term = implicit(0x00080005, b"ISO_IR 100") if vr is None else with_vr(0x00080005, vr, b"ISO_IR 100")
    data_set, mends = mended(file_of(term), tmp_path)
    assert mends == {(0x00080005, Correction.NO_VR)}
    assert data_set.SpecificCharacterSet == "ISO_IR 100"
