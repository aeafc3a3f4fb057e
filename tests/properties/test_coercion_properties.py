"""Coercion is idempotent and deterministic, and touches nothing but what it says."""

import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.sites import coercing
from support.studies import geiis

from pipeline.coercions import coerce, rules_of
from pipeline.dicom.attributes.character_sets import CharacterSet
from pipeline.dicom.attributes.elements import put, raw_element
from pipeline.errors import Permanent

# pydicom warns of every wrong declaration it meets; the wrong ones are what is tested here
pytestmark = [
    pytest.mark.filterwarnings("ignore:Unknown encoding"),
    pytest.mark.filterwarnings("ignore:Incorrect value for Specific Character Set"),
]

TERMS = [
    "",
    "ISO_IR 100",
    "ISO_IR 101",
    "ISO_IR 126",
    "ISO_IR 13",
    "ISO_IR 192",
    "GB18030",
    "GBK",
    r"\ISO 2022 IR 87",
    r"ISO 2022 IR 13\ISO 2022 IR 87\ISO 2022 IR 159",
    r"\ISO 2022 IR 149",
    r"ISO 2022 IR 100\ISO 2022 IR 144",
    "UTF8",
    "ISO-IR 100",
    "WHATEVER",
]
LETTERS = "aZ 09.-~éüñßŁżΔωЖяﾔ山田洪홍张小ÃŒ"
NAMES = st.text(alphabet=LETTERS, min_size=1, max_size=20).map(str.strip).filter(bool)
PERSON_NAMES = st.lists(NAMES, min_size=0, max_size=3).map("^".join)
TABLES = st.lists(
    st.one_of(
        st.builds(
            lambda keyword, text, when: {"set": {keyword: text}, "when": when},
            st.sampled_from(["StudyDescription", "InstitutionName", "InstitutionalDepartmentName"]),
            NAMES,
            st.sampled_from(["empty", "always"]),
        ),
        st.builds(
            lambda keyword, when: {"remove": [keyword], "when": when},
            st.sampled_from(["StudyID", "StudyDescription", "InstitutionName", "0009,GEIIS,01", "00080090"]),
            st.sampled_from(["empty", "always"]),
        ),
        st.builds(
            lambda text, when: {"set": {"SpecificCharacterSet": text}, "when": when},
            st.sampled_from([t for t in TERMS if t and CharacterSet.of(t).is_defined]),
            st.sampled_from(["empty", "always"]),
        ),
        st.builds(lambda text: {"set": {"Modality": text}}, st.sampled_from(["CT", "OT"])),
    ),
    max_size=4,
)


@st.composite
def headers(draw):
    """A header in some character set, its texts of that set or of none."""
    dataset = geiis.with_thumbnail(draw(st.sampled_from([0x10, 0x11]))) if draw(st.booleans()) else geiis.ct()
    header = coercing.header(geiis.file_of(dataset))
    del header[0x00080005]
    terms = draw(st.sampled_from(TERMS))
    if terms or draw(st.booleans()):
        put(header, raw_element(header, 0x00080005, "CS", terms.encode()))
    charset = CharacterSet.of(terms)
    for tag, vr, texts in ((0x00100010, "PN", PERSON_NAMES), (0x00080080, "LO", NAMES), (0x00081030, "LO", NAMES)):
        text = draw(texts)
        try:
            data = charset.encode(text, vr)
        except UnicodeEncodeError:
            data = draw(st.one_of(st.just(text.encode()), st.just(text.encode("latin-1", "replace"))))
        put(header, raw_element(header, tag, vr, data))
    return coercing.as_file(header)


def site(institution, tables, when):
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "map.json").write_text(json.dumps({"CT1": institution}))
        return rules_of(
            coercing.site(folder, coercion=tables, institution_mapping="map.json", default_coercions=when)
        )


@settings(max_examples=300, deadline=None)
@given(file=headers(), institution=NAMES, tables=TABLES, when=st.sampled_from(["empty", "always", "off"]))
def test_coercing_twice_is_coercing_once_and_the_same_input_gives_the_same_bytes(file, institution, tables, when):
    rules = site(institution, tables, when)
    header, twin = coercing.header(file), coercing.header(file)
    try:
        result = coerce(header, coercing.origin(), rules)
    except Permanent:
        return  # nothing of it leaves
    assert coerce(twin, coercing.origin(), rules) == result
    once = coercing.header_bytes(header)
    assert coercing.header_bytes(twin) == once
    again = coercing.reread(header)
    changes = coerce(again, coercing.origin(), rules).changes
    if any(change.after is None for change in result.changes):
        # A character set is declared only if no text contradicts it, and a rule removed the text that did.
        assert {change.keyword for change in changes} <= {"SpecificCharacterSet"}
    else:
        assert changes == ()
    if not changes:
        assert coercing.header_bytes(again) == once


@settings(max_examples=200, deadline=None)
@given(file=headers(), institution=NAMES, tables=TABLES)
def test_what_is_not_touched_comes_out_byte_for_byte(file, institution, tables):
    before, header = coercing.header(file), coercing.header(file)
    try:
        result = coerce(header, coercing.origin(), site(institution, tables, "empty"))
    except Permanent:
        return
    for tag in before.keys() - result.touched:
        assert coercing.element_bytes(header, tag) == coercing.element_bytes(before, tag)
    assert set(header.keys()) - set(before.keys()) <= result.touched


@settings(max_examples=400, deadline=None)
@given(terms=st.sampled_from(TERMS), text=NAMES, vr=st.sampled_from(["LO", "PN", "LT"]))
def test_what_a_character_set_writes_it_reads(terms, text, vr):
    charset = CharacterSet.of(terms)
    try:
        data = charset.encode(text, vr)
    except UnicodeEncodeError:
        return
    assert charset.decode(data, vr) == text


@settings(max_examples=400, deadline=None)
@given(terms=st.sampled_from(TERMS), data=st.binary(max_size=24))
def test_bytes_are_read_or_refused_and_what_is_read_loses_nothing(terms, data):
    charset = CharacterSet.of(terms)
    try:
        text = charset.decode(data, "LO")
    except UnicodeDecodeError:
        return
    if b"\x1b" not in data and charset.is_defined:
        assert CharacterSet.of("ISO_IR 192").encode(text, "LT").decode() == text
        assert len(text) >= len(data) // 4
