"""Character sets: what can be read, what can be written, and what is never guessed."""

import pytest
from pydicom.charset import convert_encodings, decode_bytes

from pipeline.dicom.attributes.character_sets import CharacterSet

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
