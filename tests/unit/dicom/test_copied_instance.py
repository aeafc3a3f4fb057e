"""A copy has the attributes that were changed, and every other byte as received; what differs is noticed."""

from pathlib import Path

import pydicom
import pytest
from pydicom.data import get_testdata_file

from pipeline.dicom.attributes.elements import drop, put, raw_element
from pipeline.dicom.copied_instance import CopiedInstance
from pipeline.dicom.header import read_header
from pipeline.dicom.part10 import Malformed
from pipeline.dicom.reading import data_set_of
from pipeline.dicom.walk import walk

PATIENT_NAME, PATIENT_ID, SOP_INSTANCE = 0x00100010, 0x00100020, 0x00080018
STUDY_COMMENTS = 0x00324000  # CT_small.dcm has none


@pytest.fixture(params=["CT_small.dcm", "MR_small_bigendian.dcm", "rtplan.dcm", "JPEG2000.dcm"])
def copied(request, tmp_path):
    """Yield a copy with one attribute changed, one added and one removed, and the file it was written to."""
    with data_set_of(Path(get_testdata_file(request.param))) as (data, layout):
        header = read_header(data, layout)
        put(header, raw_element(header, PATIENT_NAME, "PN", b"ANOTHER^NAME"))
        put(header, raw_element(header, STUDY_COMMENTS, "LT", b"new"))
        drop(header, PATIENT_ID)
        copy = CopiedInstance(data, layout, header, frozenset((PATIENT_NAME, STUDY_COMMENTS, PATIENT_ID)))
        copy.write(tmp_path / "made")
        yield copy, tmp_path / "made"


def test_it_has_the_changes_and_otherwise_what_was_received(copied):
    copy, made = copied
    read = pydicom.dcmread(made)
    assert (read.PatientName, read[STUDY_COMMENTS].value) == ("ANOTHER^NAME", "new")
    uid, name, identifier = copy.read_back(made, (SOP_INSTANCE, PATIENT_NAME, PATIENT_ID))
    assert (uid, name, identifier) == (read.SOPInstanceUID, "ANOTHER^NAME", "")
    assert PATIENT_ID not in read


def test_every_byte_of_its_header_that_differs_is_noticed(copied):
    copy, made = copied
    content = made.read_bytes()
    began = content.index(b"DICM") + 4
    head = len(content) - (copy._layout.end - copy._layout.header_end)
    data_set = began + 12 + int.from_bytes(content[began + 8 : began + 12], "little")
    for at in range(data_set, head, 7):
        made.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        with pytest.raises(Malformed):
            copy.read_back(made, ())


@pytest.mark.parametrize("cut", [1, 100_000_000])
def test_a_copy_that_was_cut_is_noticed(copied, cut):
    copy, made = copied
    made.write_bytes(made.read_bytes()[:-cut])
    with pytest.raises(Malformed):
        copy.read_back(made, ())


def test_a_copy_with_something_behind_it_is_noticed(copied):
    copy, made = copied
    made.write_bytes(made.read_bytes() + b"\0\0")
    with pytest.raises(Malformed):
        copy.read_back(made, ())


def test_another_transfer_syntax_than_that_of_the_data_set_is_noticed(copied):
    copy, made = copied
    content = made.read_bytes()
    syntax = copy._layout.transfer_syntax_uid.encode()
    made.write_bytes(content.replace(syntax, syntax[:-1] + b"9", 1))
    with pytest.raises(Malformed, match="file meta information"):
        copy.read_back(made, ())


def test_an_attribute_behind_pixel_data_is_not_written_a_second_time(tmp_path):
    received = Path(get_testdata_file("CT_small.dcm")).read_bytes()
    layout = walk(received)
    element, pixels = layout.elements[PATIENT_ID], layout.pixels
    late = received[: element.start] + received[element.end : pixels.end] + received[element.start : element.end]
    (tmp_path / "received").write_bytes(late)
    with data_set_of(tmp_path / "received") as (data, layout):
        header = read_header(data, layout)
        put(header, raw_element(header, PATIENT_ID, "LO", b"NEW"))
        copy = CopiedInstance(data, layout, header, frozenset((PATIENT_ID,)))
        copy.write(tmp_path / "made")
        with pytest.raises(Malformed, match="twice"):
            copy.read_back(tmp_path / "made", ())


def _without_the_first(pieces):
    return pieces[1:]


def _with_the_first_twice(pieces):
    return (pieces[0], *pieces)


def _without_a_changed_one(pieces):
    changed = next(piece for piece in pieces if isinstance(piece, bytes))
    return tuple(piece for piece in pieces if piece is not changed)


@pytest.mark.parametrize("spoil", [_without_the_first, _with_the_first_twice, _without_a_changed_one])
def test_a_copy_in_which_an_element_is_missing_or_twice_is_noticed(copied, spoil):
    copy, made = copied
    copy.__dict__["_pieces"] = spoil(copy._pieces)  # as if the writer itself were wrong
    copy.write(made)
    with pytest.raises(Malformed, match=r"lacks|twice"):
        copy.read_back(made, ())
