"""The character set an object declares, or the site declares for it: kept, widened, put right, never guessed."""

import json

import pytest
from pydicom import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from support.sites import coercing
from support.studies import geiis

from pipeline.coercions import coerce, rules_of
from pipeline.dicom.attributes.declared_text import text_of
from pipeline.dicom.attributes.elements import bytes_of, element_of, put, raw_element
from pipeline.errors import Permanent

NAME = 0x00100010
INSTITUTION = 0x00080080


def raw_ct(charset, name, *, change=lambda _header: None):
    """A CT whose Specific Character Set and Patient's Name are these bytes; None is absent."""
    header = coercing.header(geiis.file_of(geiis.ct()))
    del header[0x00080005]
    if charset is not None:
        put(header, raw_element(header, 0x00080005, "CS", charset))
    put(header, raw_element(header, NAME, "PN", name))
    change(header)
    return coercing.reread(header)


def mapped(header, institution, folder, **keys):
    (folder / "map.json").write_text(json.dumps({"CT1": institution}))
    rules = rules_of(coercing.site(folder, institution_mapping="map.json", default_coercions="off", **keys))
    return coerce(header, coercing.origin(), rules)


def test_the_data_set_s_own_set_is_used_where_it_has_the_characters(tmp_path):
    header = raw_ct(b"ISO_IR 101", "Żółw^Łucja".encode("iso8859_2"))
    result = mapped(header, "Szpital Łódź", tmp_path)
    assert [c.keyword for c in result.changes] == ["InstitutionName"]
    assert bytes_of(element_of(header, INSTITUTION)) == "Szpital Łódź".encode("iso8859_2")


def test_the_whole_data_set_is_widened_where_its_own_set_has_not_the_characters(tmp_path):
    def nested(header):
        item = Dataset()
        put(item, raw_element(header, 0x00080104, "LO", b"Sch\xe4del"))
        own = Dataset()
        put(own, raw_element(header, 0x00080005, "CS", b"ISO_IR 144"))
        put(own, raw_element(header, 0x00080104, "LO", b"\xbb\xee\xda\xe1"))
        header.ProcedureCodeSequence = [item, own]

    header = raw_ct(b"ISO_IR 100", b"M\xfcller^J\xf6rg", change=nested)
    result = mapped(header, "Łódź", tmp_path)
    assert [(c.keyword, c.before, c.after) for c in result.changes] == [
        ("SpecificCharacterSet", "ISO_IR 100", "ISO_IR 192"),
        ("InstitutionName", "Old Name", "Łódź"),
    ]
    assert {0x00080005, INSTITUTION, NAME, 0x00081032, 0x04000561} == result.touched
    after = coercing.reread(header)
    assert bytes_of(element_of(after, NAME)).rstrip() == "Müller^Jörg".encode()
    assert after.ProcedureCodeSequence[0].CodeMeaning == "Schädel"
    own = after.ProcedureCodeSequence[1]
    assert own.SpecificCharacterSet == "ISO_IR 192"
    assert own.CodeMeaning == "Люкс"


def test_an_item_that_breaks_its_own_declaration_stays_as_it_is(tmp_path):
    def nested(header):
        own = Dataset()
        put(own, raw_element(header, 0x00080005, "CS", b"ISO_IR 192"))
        put(own, raw_element(header, 0x00080104, "LO", b"Sch\xe4"))
        own.set_original_encoding(False, True, ["UTF8"])  # as if read, so that pydicom writes it as it is
        header.ProcedureCodeSequence = [own]

    header = raw_ct(b"ISO_IR 100", b"M\xfcller", change=nested)
    mapped(header, "Łódź", tmp_path)
    after = coercing.reread(header)
    assert after.PatientName == "Müller"
    assert bytes_of(element_of(after.ProcedureCodeSequence[0], 0x00080104)) == b"Sch\xe4"


def test_the_previous_values_are_widened_with_the_data_set(tmp_path):
    header = raw_ct(b"ISO_IR 100", b"M\xfcller^J\xf6rg")
    put(header, raw_element(header, INSTITUTION, "LO", b"K\xf6ln"))
    mapped(header, "Łódź", tmp_path)
    item = coercing.reread(header).OriginalAttributesSequence[0].ModifiedAttributesSequence[0]
    assert 0x00080005 not in item  # it would say of which set the item is, not of which the data set was
    assert bytes_of(element_of(item, INSTITUTION)).rstrip() == "Köln".encode()
    assert item.InstitutionName == "Köln"


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        (None, b"M\xfcller"),  # not declared
        (b"ISO_IR 100", "Müller".encode()),  # UTF-8 that says it is Latin-1
        (b"ISO_IR 192", b"M\xfcller"),
        (b"WHATEVER", b"M\xfcller"),
    ],
)
def test_a_name_that_cannot_be_read_is_never_rewritten(charset, name, tmp_path):
    header = raw_ct(charset, name)
    if charset == b"ISO_IR 192":
        result = mapped(header, "Łódź", tmp_path)
        assert [c.keyword for c in result.changes] == ["InstitutionName"]
        assert bytes_of(element_of(coercing.reread(header), NAME)).rstrip() == name
        return
    with pytest.raises(Permanent, match=r"InstitutionName cannot be written .* because PatientName is not of"):
        mapped(header, "Łódź", tmp_path)


def test_the_reason_tells_what_to_do_and_nothing_of_the_patient(tmp_path):
    with pytest.raises(Permanent) as told:
        mapped(raw_ct(None, b"M\xfcller"), "Łódź", tmp_path)
    assert 'set = { SpecificCharacterSet = "ISO_IR 100" }' in str(told.value)
    assert "ller" not in str(told.value)


@pytest.mark.parametrize("institution", ["Łódź", "Klinik"])
def test_an_unreadable_value_that_is_replaced_does_not_stand_in_the_way(institution, tmp_path):
    header = raw_ct(None, b"Mueller")
    put(header, raw_element(header, INSTITUTION, "LO", b"K\xf6ln"))
    mapped(header, institution, tmp_path)
    after = coercing.reread(header)
    assert after.InstitutionName == institution
    (item,) = after.OriginalAttributesSequence
    assert item.ModifiedAttributesSequence[0].InstitutionName == ""
    (nonconforming,) = item.NonconformingModifiedAttributesSequence
    assert nonconforming.SelectorAttribute == INSTITUTION
    assert nonconforming.NonconformingDataElementValue == b"K\xf6ln"


def test_a_site_can_tell_which_set_a_sender_forgot_to_declare(tmp_path):
    table = {"set": {"SpecificCharacterSet": "ISO_IR 100"}, "when": "empty", "calling_ae_title": "CT*"}
    header = raw_ct(None, b"M\xfcller")
    result = mapped(header, "Łódź", tmp_path, coercion=[table])
    assert next((c.keyword, c.before, c.after) for c in result.changes) == (
        "SpecificCharacterSet",
        None,
        "ISO_IR 192",
    )
    assert coercing.reread(header).PatientName == "Müller"


def test_a_set_the_site_declares_is_written_where_it_is_enough(tmp_path):
    table = {"set": {"SpecificCharacterSet": "ISO_IR 144"}}
    header = raw_ct(b"ISO_IR 100", b"\xbb\xee\xda\xe1")
    result = mapped(header, "Клиника", tmp_path, coercion=[table])
    assert {c.keyword: c.after for c in result.changes}["SpecificCharacterSet"] == "ISO_IR 144"
    after = coercing.reread(header)
    assert (after.PatientName, after.InstitutionName) == ("Люкс", "Клиника")
    assert bytes_of(element_of(header, NAME)) == b"\xbb\xee\xda\xe1"


def test_a_set_the_site_declares_is_not_believed_against_the_text_itself(tmp_path):
    table = {"set": {"SpecificCharacterSet": "ISO_IR 100"}}
    header = raw_ct(b"ISO_IR 192", "Müller".encode())
    result = mapped(header, "Klinik", tmp_path, coercion=[table])
    assert [c.keyword for c in result.changes] == ["InstitutionName"]


def test_a_value_that_only_the_old_declaration_made_equal_is_written_anew(tmp_path):
    table = {"set": {"SpecificCharacterSet": "ISO_IR 100"}}
    header = raw_ct(b"GB18030", b"Mueller")
    put(header, raw_element(header, INSTITUTION, "LO", "Köln".encode("gb18030")))
    mapped(header, "Köln", tmp_path, coercion=[table])
    after = coercing.reread(header)
    assert after.SpecificCharacterSet == "ISO_IR 100"
    assert bytes_of(element_of(after, INSTITUTION)) == b"K\xf6ln"


def test_a_declaration_of_utf_8_that_is_true_stays(tmp_path):
    table = {"set": {"SpecificCharacterSet": "ISO_IR 100"}}
    header = raw_ct(b"ISO_IR 192", b"Mueller")
    assert [c.keyword for c in mapped(header, "Klinik", tmp_path, coercion=[table]).changes] == ["InstitutionName"]


def test_a_declaration_of_utf_8_that_is_wrong_is_put_right(tmp_path):
    table = {"set": {"SpecificCharacterSet": "ISO_IR 100"}}
    header = raw_ct(b"ISO_IR 192", b"M\xfcller")
    mapped(header, "Łódź", tmp_path, coercion=[table])
    assert coercing.reread(header).PatientName == "Müller"


@pytest.mark.parametrize("institution", ["Łódź", "Klinik"])
def test_pydicom_writes_a_rewritten_header_as_it_stands(institution, tmp_path):
    def nested(header):
        item = Dataset()
        put(item, raw_element(header, 0x00080104, "LO", b"Sch\xe4del"))
        put(item, raw_element(header, 0x00080102, "SH", b"X\0\0\0"))  # padded as pydicom would not
        item.is_undefined_length_sequence_item = True
        item.set_original_encoding(False, True, "iso8859")
        header.ProcedureCodeSequence = [item]
        header["ProcedureCodeSequence"].is_undefined_length = True

    table = {"set": {"SpecificCharacterSet": "ISO_IR 144"}, "when": "empty"}
    header = raw_ct(None, b"\xbb\xee\xda\xe1 ", change=nested)
    put(header, raw_element(header, 0x00081030, "LO", b"\xbb\xee\0\0"))
    mapped(header, institution, tmp_path, coercion=[table])
    buffer = DicomBytesIO()
    buffer.is_implicit_VR, buffer.is_little_endian = False, True
    write_dataset(buffer, header)
    assert buffer.getvalue() == coercing.header_bytes(header)
    assert header.PatientName == "Люкс"
    item = coercing.reread(header).ProcedureCodeSequence[0]
    assert bytes_of(element_of(item, 0x00080102)) == b"X\0\0\0"
    assert item.CodeMeaning == b"Sch\xe4del".decode("iso8859_5")


def test_a_set_the_text_is_not_of_is_not_declared(tmp_path):
    table = {"set": {"SpecificCharacterSet": "ISO_IR 192"}, "when": "empty"}
    header = raw_ct(None, b"M\xfcller")
    assert [c.keyword for c in mapped(header, "Klinik", tmp_path, coercion=[table]).changes] == ["InstitutionName"]


def test_a_text_of_unknown_vr_that_the_dictionary_knows_is_widened(tmp_path):
    header = raw_ct(b"ISO_IR 100", b"M\xfcller")
    put(header, raw_element(header, 0x00081030, "UN", b"Sch\xe4del "))
    mapped(header, "Łódź", tmp_path)
    assert bytes_of(element_of(header, 0x00081030)).rstrip() == "Schädel".encode()


def test_declaring_a_set_and_widening_it_is_done_once(tmp_path):
    table = {"set": {"SpecificCharacterSet": "ISO_IR 100"}}
    header = raw_ct(None, b"M\xfcller")
    mapped(header, "Łódź", tmp_path, coercion=[table])
    once = coercing.header_bytes(header)
    again = coercing.reread(header)
    assert mapped(again, "Łódź", tmp_path, coercion=[table]).changes == ()
    assert coercing.header_bytes(again) == once


def test_a_private_text_of_a_known_creator_is_widened_and_an_unknown_one_stays(tmp_path):
    def private(header):
        put(header, raw_element(header, 0x00110010, "LO", b"NOBODY KNOWS"))
        put(header, raw_element(header, 0x00111001, "UN", b"\xe9\xe8"))
        put(header, raw_element(header, 0x00111002, "LO", b"caf\xe9"))

    header = raw_ct(b"ISO_IR 100", b"Mueller", change=private)
    mapped(header, "Łódź", tmp_path)
    after = coercing.reread(header)
    assert bytes_of(element_of(after, 0x00111001)) == b"\xe9\xe8"
    assert bytes_of(element_of(after, 0x00111002)).rstrip() == "café".encode()


def test_reading_a_text_decodes_nothing_in_the_data_set():
    header = raw_ct(b"ISO_IR 192", b"M\xfcller")
    before = coercing.header_bytes(header)
    assert text_of(header, NAME) == r"M\xfcller"
    assert text_of(header, 0x00100040) is None
    assert element_of(header, NAME).is_raw
    assert coercing.header_bytes(header) == before


@pytest.mark.parametrize("spelling", [b"ISO IR 192", b"ISO_IR192", b"UTF-8 "])
def test_what_must_be_written_into_an_object_of_misspelt_utf_8_leaves_as_utf_8_with_all_its_text(spelling):
    header = raw_ct(spelling, "Müller^Zoë".encode())
    changes = coerce(
        header, coercing.origin(), rules_of(coercing.site(coercion=[{"set": {"InstitutionName": "Łódź Klinik"}}]))
    ).changes
    after = coercing.reread(header)
    assert {c.keyword: c.after for c in changes}["SpecificCharacterSet"] == "ISO_IR 192"
    assert after.SpecificCharacterSet == "ISO_IR 192"
    assert after.PatientName == "Müller^Zoë"
    assert after.InstitutionName == "Łódź Klinik"


def test_a_wrongly_spelt_declaration_stays_where_nothing_else_must_be_written():
    header = raw_ct(b"UTF8", "Müller".encode())
    changes = coerce(header, coercing.origin(), rules_of(coercing.site())).changes
    assert "SpecificCharacterSet" not in {c.keyword for c in changes}
    assert text_of(header, 0x00080005) == "UTF8"
