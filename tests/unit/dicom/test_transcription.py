"""Implicit and big endian data sets become Explicit VR Little Endian, value for value."""

import io
from struct import pack

import pytest
from pydicom import Dataset, dcmread
from pydicom.dataset import FileMetaDataset
from support.studies.native_images import BIG, EXPLICIT, IMPLICIT, written

from pipeline.dicom.encodings import NotEncoded
from pipeline.dicom.pixels.transcription import transcribed

END_OF_ITEM = pack("<HHL", 0xFFFE, 0xE00D, 0)
END_OF_SEQUENCE = pack("<HHL", 0xFFFE, 0xE0DD, 0)


def received(syntax: str, *elements: bytes) -> Dataset:
    """Return the data set as it is read from these very bytes."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    head = Dataset()
    head.file_meta = meta
    head.preamble = b"\0" * 128
    file = io.BytesIO()
    head.save_as(file)
    return dcmread(io.BytesIO(file.getvalue() + b"".join(elements)))


def implicit(group: int, element: int, value: bytes) -> bytes:
    return pack("<HHL", group, element, len(value)) + value


def big(group: int, element: int, vr: bytes, value: bytes) -> bytes:
    if vr in {b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN", b"SQ", b"UV", b"SV", b"UT"}:
        return pack(">HH2sHL", group, element, vr, 0, len(value)) + value
    return pack(">HH2sH", group, element, vr, len(value)) + value


def sent_on(dataset: Dataset) -> Dataset:
    """Return what the next one reads."""
    result = transcribed(dataset)
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = EXPLICIT
    result.preamble = b"\0" * 128
    file = io.BytesIO()
    result.save_as(file)
    return dcmread(io.BytesIO(file.getvalue()))


def raw(dataset: Dataset, tag: int) -> tuple[str, bytes]:
    element = dataset.get_item(tag)
    return element.VR, element.value


@pytest.mark.parametrize(
    ("vr", "value", "expected"),
    [
        (b"US", "01020304", "02010403"),
        (b"SS", "0102", "0201"),
        (b"AT", "00080016", "08001600"),
        (b"UL", "01020304", "04030201"),
        (b"SL", "01020304", "04030201"),
        (b"FL", "01020304", "04030201"),
        (b"FD", "0102030405060708", "0807060504030201"),
        (b"SV", "0102030405060708", "0807060504030201"),
        (b"UV", "0102030405060708", "0807060504030201"),
        (b"OW", "010203040506", "020104030605"),
        (b"OL", "0102030405060708", "0403020108070605"),
        (b"OF", "0102030405060708", "0403020108070605"),
        (b"OD", "0102030405060708", "0807060504030201"),
        (b"OV", "0102030405060708", "0807060504030201"),
        (b"OB", "0102", "0102"),
        (b"UN", "0102", "0102"),
        (b"LO", "4120", "4120"),
        (b"DS", "312e3530", "312e3530"),
    ],
)
def test_big_endian_words_turn_by_their_vr_and_nothing_else_turns(vr, value, expected):
    got = sent_on(received(BIG, big(0x0009, 0x1001, vr, bytes.fromhex(value))))

    assert raw(got, 0x00091001) == (vr.decode(), bytes.fromhex(expected))


def test_a_big_endian_value_of_half_a_word_is_not_guessed():
    with pytest.raises(NotEncoded, match=r"\(0009,1001\) is not whole words"):
        transcribed(received(BIG, big(0x0009, 0x1001, b"OL", b"123456")))


@pytest.mark.parametrize("bits", [32, 64])
def test_big_endian_pixels_of_more_than_one_word_are_not_guessed(bits):
    """The words of one sample stand the one way for some programs, the other way for others: doses differ."""
    size = big(0x0028, 0x0100, b"US", pack(">H", bits))
    with pytest.raises(NotEncoded, match="read in two ways"):
        transcribed(received(BIG, size, big(0x7FE0, 0x0010, b"OW", bytes(8))))
    transcribed(received(EXPLICIT, pack("<HH2sHH", 0x0028, 0x0100, b"US", 2, bits)))


def test_words_in_the_items_of_a_big_endian_sequence_turn_too():
    item = big(0x0028, 0x3006, b"OW", b"\x01\x02\x03\x04")
    lut = pack(">HHL", 0xFFFE, 0xE000, len(item)) + item

    got = sent_on(received(BIG, big(0x0028, 0x3000, b"SQ", lut)))

    assert raw(got.ModalityLUTSequence[0], 0x00283006) == ("OW", b"\x02\x01\x04\x03")


@pytest.mark.parametrize(("representation", "vr"), [(0, "US"), (1, "SS")])
def test_the_padding_value_has_the_sign_of_the_pixels(representation, vr):
    got = sent_on(
        received(
            IMPLICIT,
            implicit(0x0028, 0x0103, pack("<H", representation)),
            implicit(0x0028, 0x0120, b"\x30\xf8"),
        )
    )

    assert raw(got, 0x00280120) == (vr, b"\x30\xf8")


def test_an_item_without_its_own_sign_has_that_of_the_data_set_around_it():
    descriptor = implicit(0x0028, 0x3002, pack("<HhH", 256, -1000, 16))
    items = implicit(0xFFFE, 0xE000, descriptor)

    got = sent_on(received(IMPLICIT, implicit(0x0028, 0x0103, b"\1\0"), implicit(0x0028, 0x3000, items)))

    assert got.ModalityLUTSequence[0].get_item(0x00283002).VR == "SS"
    assert got.ModalityLUTSequence[0].LUTDescriptor == [256, -1000, 16]


@pytest.mark.parametrize("tag", [(0x0028, 0x3006), (0x6000, 0x3000), (0x5400, 0x1010), (0x0028, 0x1201)])
def test_what_may_be_bytes_or_words_is_words_in_implicit_vr(tag):
    got = sent_on(received(IMPLICIT, implicit(*tag, b"\x01\x02\x03\x04")))

    assert raw(got, tag[0] << 16 | tag[1]) == ("OW", b"\x01\x02\x03\x04")


def test_a_private_element_nobody_knows_is_unknown_and_stays_as_it_is():
    got = sent_on(
        received(IMPLICIT, implicit(0x0009, 0x0010, b"NOBODY"), implicit(0x0009, 0x1001, b"\1\2\3\4\5\6"))
    )

    assert raw(got, 0x00090010) == ("LO", b"NOBODY")
    assert raw(got, 0x00091001) == ("UN", b"\1\2\3\4\5\6")


def test_a_private_element_of_a_known_creator_has_his_vr():
    got = sent_on(
        received(IMPLICIT, implicit(0x0019, 0x0010, b"SIEMENS MR HEADER "), implicit(0x0019, 0x100C, b"1000"))
    )

    assert raw(got, 0x0019100C) == ("IS", b"1000")


def test_a_private_sequence_stays_closed():
    items = implicit(0xFFFE, 0xE000, implicit(0x0008, 0x0060, b"CT"))

    got = sent_on(
        received(IMPLICIT, implicit(0x0071, 0x0010, b"AGFA-AG_HPState "), implicit(0x0071, 0x1018, items))
    )

    assert raw(got, 0x00711018) == ("UN", items)  # PS3.5 6.2.2: the items of UN are implicit


def test_a_sequence_keeps_the_kind_of_its_length():
    item = pack("<HHL", 0xFFFE, 0xE000, 0xFFFFFFFF) + implicit(0x0008, 0x0060, b"CT") + END_OF_ITEM
    open_ended = pack("<HHL", 0x0008, 0x1115, 0xFFFFFFFF) + item + END_OF_SEQUENCE

    got = sent_on(received(IMPLICIT, open_ended))

    assert got["ReferencedSeriesSequence"].is_undefined_length
    assert got.ReferencedSeriesSequence[0].Modality == "CT"


def test_compressed_pixels_of_an_icon_stay_compressed():
    fragments = pack("<HHL", 0xFFFE, 0xE000, 0) + pack("<HHL", 0xFFFE, 0xE000, 2) + b"\1\2"
    icon = pack("<HHL", 0x7FE0, 0x0010, 0xFFFFFFFF) + fragments + END_OF_SEQUENCE

    got = sent_on(received(IMPLICIT, icon))

    assert raw(got, 0x7FE00010) == ("OB", fragments)


def test_compressed_pixels_in_big_endian_are_not_guessed():
    fragments = pack(">HHL", 0xFFFE, 0xE000, 0) + pack(">HHL", 0xFFFE, 0xE000, 2) + b"\1\2"
    icon = pack(">HH2sHL", 0x7FE0, 0x0010, b"OB", 0, 0xFFFFFFFF) + fragments + pack(">HHL", 0xFFFE, 0xE0DD, 0)

    with pytest.raises(NotEncoded, match="not whole words"):
        transcribed(received(BIG, icon))


def test_a_data_set_made_here_needs_no_turning():
    ds = Dataset()
    ds.RedPaletteColorLookupTableData = b"\1\2"
    ds.Rows = 5

    got = sent_on(ds)

    assert (got.Rows, raw(got, 0x00281201)) == (5, ("OW", b"\1\2"))


def test_an_unreadable_sign_is_no_sign():
    got = sent_on(received(IMPLICIT, implicit(0x0028, 0x0103, b"\1"), implicit(0x0028, 0x0120, b"\x30\xf8")))

    assert raw(got, 0x00280120) == ("US", b"\x30\xf8")


@pytest.mark.parametrize("value", [b"1.5 ", b"abc ", b"1\\2\\x ", b"00000000000000000001"])
def test_a_number_that_is_wrong_leaves_as_it_came(value):
    got = sent_on(received(IMPLICIT, implicit(0x0020, 0x0013, value)))

    assert raw(got, 0x00200013) == ("IS", value)


@pytest.mark.filterwarnings("ignore:Unknown encoding")  # which is the situation
def test_text_in_a_character_set_nobody_knows_leaves_as_it_came():
    name = b"\xc4nderung^\x1b$B"

    got = sent_on(received(IMPLICIT, implicit(0x0008, 0x0005, b"WRONG "), implicit(0x0010, 0x0010, name + b" ")))

    assert raw(got, 0x00100010) == ("PN", name + b" ")


@pytest.mark.parametrize("syntax", [IMPLICIT, BIG])
def test_text_whose_character_set_was_widened_is_written_in_the_new_one(syntax):
    if syntax == BIG:
        elements = (big(0x0008, 0x0005, b"CS", b"ISO_IR 100"), big(0x0010, 0x0010, b"PN", b"M\xfcller"))
    else:
        elements = (implicit(0x0008, 0x0005, b"ISO_IR 100"), implicit(0x0010, 0x0010, b"M\xfcller"))
    ds = received(syntax, *elements)
    ds.SpecificCharacterSet = "ISO_IR 192"
    ds.InstitutionName = "\u4e2d"

    got = sent_on(ds)

    assert (got.PatientName, got.InstitutionName) == ("M\u00fcller", "\u4e2d")


def test_explicit_elements_are_not_touched_at_all():
    odd = pack("<HH2sH", 0x0020, 0x0013, b"IS", 4) + b"abc "

    got = sent_on(received(EXPLICIT, odd))

    assert raw(got, 0x00200013) == ("IS", b"abc ")


def test_a_coerced_value_is_the_one_that_leaves():
    ds = received(BIG, big(0x0008, 0x0080, b"LO", b"OLD "), big(0x0028, 0x0010, b"US", b"\1\0"))
    ds.InstitutionName = "Neues Haus"
    ds.StudyID = "1"

    got = sent_on(ds)

    assert (got.InstitutionName, got.StudyID, got.Rows) == ("Neues Haus", "1", 256)


def test_a_value_already_looked_at_turns_all_the_same():
    ds = received(
        BIG,
        big(0x0028, 0x0010, b"US", b"\1\2"),
        big(0x0028, 0x1201, b"OW", b"\1\2\3\4"),
        big(0x0008, 0x9215, b"SQ", b""),
    )
    assert [element.value for element in ds][1:] == [0x0102, b"\1\2\3\4"]

    got = sent_on(ds)

    assert (got.Rows, got.RedPaletteColorLookupTableData) == (0x0102, b"\2\1\4\3")


def test_a_large_value_that_is_still_on_disk_is_read(tmp_path):
    ds = received(BIG, big(0x0028, 0x1201, b"OW", b"\1\2" * 100))
    ds.save_as(tmp_path / "big.dcm")

    got = sent_on(dcmread(tmp_path / "big.dcm", defer_size=10))

    assert raw(got, 0x00281201) == ("OW", b"\2\1" * 100)


def test_the_data_set_that_was_given_can_still_be_written_as_it_was():
    ds = received(BIG, big(0x0028, 0x1201, b"OW", b"\1\2\3\4"))
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2", "1.2.3"
    before = written(ds)

    transcribed(ds)

    assert written(ds) == before
