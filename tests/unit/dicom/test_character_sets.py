"""Character sets: what can be read, what can be written, and what is never guessed."""

import json

import pytest
from pydicom import Dataset
from pydicom.charset import convert_encodings, decode_bytes
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset
from support.sites import coercing
from support.studies import geiis

from pipeline.coercions import coerce, rules_of
from pipeline.dicom.attributes.character_sets import CharacterSet
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


# PS3.5 annexes H, I, J and K: the standard's own examples, byte for byte
EXAMPLES = [
    (r"ISO_IR 100", b"Buc^J\xe9r\xf4me", "Buc^Jérôme"),
    (r"ISO_IR 144", b"\xbb\xee\xda\xe1", "Люкс"),
    (r"ISO_IR 126", b"\xc4\xe9\xef\xed\xf5\xf3\xe9\xef\xf2", "Διονυσιος"),
    (r"ISO_IR 166", b"\xa1\xd2\xc3", "การ"),
    (r"\ISO 2022 IR 87", b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B", "Yamada^Tarou=山田^太郎"),
    (
        r"ISO 2022 IR 13\ISO 2022 IR 87",
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎",
    ),
    (
        r"\ISO 2022 IR 149",
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (r"\ISO 2022 IR 58", b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=", "Zhang^XiaoDong=张^小东="),
    (r"ISO_IR 192", "Wang^XiaoDong=王^小東".encode(), "Wang^XiaoDong=王^小東"),
    (r"GB18030", "Wang^XiaoDong=王^小东".encode("gb18030"), "Wang^XiaoDong=王^小东"),
    (r"ISO 2022 IR 100\ISO 2022 IR 144", b"J\xe9r\x1b-L\xbb\xee\x1b-A^\xe9", "JérЛю^é"),
]


@pytest.mark.parametrize(("terms", "data", "text"), EXAMPLES)
def test_the_examples_of_the_standard_are_read_and_written(terms, data, text):
    charset = CharacterSet.of(terms)
    assert charset.is_defined
    assert charset.decode(data, "PN") == text
    assert charset.encode(text, "PN") == data


@pytest.mark.parametrize(
    ("terms", "text"),
    [(terms, text) for terms, _, text in EXAMPLES if "58" not in terms],  # pydicom cannot read ISO 2022 IR 58
)
def test_what_is_written_is_read_alike_by_pydicom(terms, text):
    data = CharacterSet.of(terms).encode(text, "PN")
    assert decode_bytes(data, convert_encodings(terms.split("\\")), {ord("^"), ord("=")}) == text


@pytest.mark.parametrize(
    ("terms", "data"),
    [
        ("ISO_IR 100", b"caf\x92"),  # Windows' apostrophe: a control character of ISO 8859-1
        ("ISO_IR 100", b"\x1b-L\xbb"),  # an escape sequence where none is declared
        ("", b"caf\xe9"),
        ("ISO_IR 192", b"caf\xe9"),
        ("ISO_IR 126", b"\xff"),
        ("WHATEVER", b"caf\xe9"),
        (r"\ISO 2022 IR 87", b"\x1b$)C\xfb\xf3"),  # Korean, undeclared
        (r"\ISO 2022 IR 87", b"\x1b$B;"),  # half a character
        (r"\ISO 2022 IR 149", b"\x1b$)C\xfb"),
        (r"\ISO 2022 IR 149", b"\xfb\xf3"),  # no escape sequence at all
        ("GB18030", b"\xff\xff"),
    ],
)
def test_bytes_that_are_not_of_the_set_are_not_read(terms, data):
    with pytest.raises(UnicodeDecodeError):
        CharacterSet.of(terms).decode(data, "LO")


@pytest.mark.parametrize(
    "spelling",
    [
        *("ISO IR 192", "ISO-IR 192", "ISO_IR192", "ISO 2022 IR 192", "iso_ir 192", "UTF-8", "utf8", "UTF_8"),
        *("IR 192", r"\ISO_IR 192", r"ISO IR 192\ISO_IR192"),
    ],
)
def test_utf_8_is_read_however_its_term_is_spelt(spelling):
    charset = CharacterSet.of(spelling)
    assert charset.is_utf_8
    assert charset.decode("Łódź Müller".encode(), "LO") == "Łódź Müller"
    with pytest.raises(UnicodeDecodeError):
        charset.decode("Müller".encode("latin-1"), "LO")


@pytest.mark.parametrize(
    ("spelling", "codec", "text"),
    [
        ("ISO IR 100", "iso8859_1", "Müller"),
        ("ISO_IR100", "iso8859_1", "Müller"),
        ("ISO 8859-1", "iso8859_1", "Müller"),
        ("latin1", "iso8859_1", "Müller"),
        ("ISO-IR-101", "iso8859_2", "Łódź"),
        ("ISO8859-5", "iso8859_5", "Жуков"),
        ("ISO_IR_144", "iso8859_5", "Жуков"),
        ("ISO-8859-15", "iso8859_15", "Œuvre €"),
        ("gb 18030", "gb18030", "洪^小东"),
        ("GB2312", "gb2312", "洪^小东"),
    ],
)
def test_other_sets_are_read_by_what_their_misspelt_terms_can_only_mean(spelling, codec, text):
    assert CharacterSet.of(spelling).decode(text.encode(codec), "LO") == text
    assert not CharacterSet.of(spelling).is_utf_8


@pytest.mark.parametrize("terms", [r"ISO_IR 100\ISO_IR 192", "UTF-16", "UTF 80", "ISO_IR 8859", "NONE"])
def test_what_may_mean_several_things_is_not_taken_for_utf_8(terms):
    assert not CharacterSet.of(terms).is_utf_8
    with pytest.raises(UnicodeDecodeError):
        CharacterSet.of(terms).decode("Łódź".encode(), "LO")


@pytest.mark.parametrize("terms", ["", "ISO_IR 100", "UTF8", "ISO-IR 100", r"\ISO 2022 IR 87", "WHATEVER"])
def test_a_character_outside_the_declared_set_is_not_written(terms):
    with pytest.raises(UnicodeEncodeError):
        CharacterSet.of(terms).encode("Łódź", "LO")


@pytest.mark.parametrize("terms", ["", "ISO_IR 6", "ISO-IR 100", "UTF8", "UTF-8", "ISO_IR192", "latin_1"])
def test_nothing_beyond_ascii_is_written_under_a_declaration_that_readers_may_not_know(terms):
    with pytest.raises(UnicodeEncodeError):
        CharacterSet.of(terms).encode("é", "LO")


@pytest.mark.parametrize("terms", ["", "ISO_IR 6", "ISO_IR 13", "UTF8", "WHATEVER", "GB18030", r"\ISO 2022 IR 87"])
def test_ascii_is_written_whatever_is_declared(terms):
    assert CharacterSet.of(terms).encode("Example Hospital", "LO") == b"Example Hospital"


def test_a_character_that_holds_a_backslash_byte_is_not_written_where_readers_split_values():
    hidden = next(chr(c) for c in range(0x4E00, 0x9FFF) if b"\\" in chr(c).encode("gbk", errors="ignore"))
    with pytest.raises(UnicodeEncodeError):
        CharacterSet.of("GBK").encode(hidden, "LO")
    assert CharacterSet.of("GBK").encode(hidden, "LT") == hidden.encode("gbk")


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
