"""The grammar of [[coercion]]: when a table applies, what it may say, and what no site may do."""

import re
import tomllib

import pytest
from support.sites import coercing
from support.studies import geiis

from pipeline.coercions import coerce, rules_of
from pipeline.errors import Configuration


def changes_of(*tables, sender=None, change=lambda _ct: None):
    ct = geiis.ct()
    change(ct)
    header = coercing.header(geiis.file_of(ct))
    rules = rules_of(coercing.site(default_coercions="off", coercion=tables))
    return {c.keyword: c.after for c in coerce(header, sender or coercing.origin(), rules).changes}


SET = {"set": {"StudyDescription": "Head"}}


@pytest.mark.parametrize(
    "condition",
    [
        {"calling_ae_title": "CT*"},
        {"calling_ae_title": "CT[12]"},
        {"receiver": "modal*"},
        {"peer": "192.0.2.*"},
        {"modality": "CT"},
        {"calling_ae_title": "CT1", "peer": "192.0.2.7", "receiver": "modalities", "modality": "C?"},
    ],
)
def test_a_table_applies_where_all_its_conditions_hold(condition):
    assert changes_of(SET | condition, sender=coercing.origin(peer="192.0.2.7"))


@pytest.mark.parametrize(
    "condition",
    [
        {"calling_ae_title": "MR*"},
        {"calling_ae_title": "ct*"},
        {"calling_ae_title": "T1"},
        {"receiver": "other"},
        {"peer": "192.0.3.*"},
        {"modality": "MR"},
        {"calling_ae_title": "CT1", "modality": "MR"},
    ],
)
def test_a_table_does_not_apply_where_one_condition_fails(condition):
    assert not changes_of(SET | condition, sender=coercing.origin(peer="192.0.2.7"))


def test_a_condition_on_the_peer_never_holds_where_nobody_knows_the_peer():
    assert not changes_of(SET | {"peer": "*"}, sender=coercing.origin(peer=None))


def test_a_condition_on_the_modality_never_holds_where_there_is_none():
    def no_modality(ct):
        del ct.Modality

    assert not changes_of(SET | {"modality": "*"}, change=no_modality)


def test_when_empty_looks_at_each_attribute_for_itself():
    table = {"set": {"StudyID": "1", "StudyDescription": "Head"}, "when": "empty"}
    assert changes_of(table) == {"StudyDescription": "Head"}


def test_when_empty_removes_only_what_is_there_and_empty():
    table = {"remove": ["ReferringPhysicianName", "StudyID", "StudyDescription"], "when": "empty"}
    assert changes_of(table) == {"ReferringPhysicianName": None}


def test_an_empty_text_leaves_an_attribute_without_value():
    assert changes_of({"set": {"StudyID": ""}}) == {"StudyID": ""}


def test_several_values_are_joined_by_backslashes():
    assert changes_of({"set": {"OtherPatientIDs": "A\\B"}}) == {"OtherPatientIDs": "A\\B"}


def test_later_tables_see_what_earlier_ones_did():
    first = {"set": {"Modality": "OT"}}
    assert changes_of(first, SET | {"modality": "OT"}) == {"Modality": "OT", "StudyDescription": "Head"}


def test_an_element_goes_by_keyword_by_number_and_by_its_private_creator():
    def private(ct):
        ct.add_new(0x00110010, "LO", "ACME 1,0")
        ct.add_new(0x00111001, "LO", "a")
        ct.add_new(0x00111002, "LO", "b")

    table = {"remove": ["StudyID", "00080020", "0011,ACME 1,0,01"]}
    assert changes_of(table, change=private) == {"StudyDate": None, "0011,ACME 1,0,01": None, "StudyID": None}


@pytest.mark.parametrize(
    ("table", "wrong"),
    [
        ({}, "coercion number 1: it neither sets nor removes anything"),
        ({"set": {"PatientNam": "x"}}, r"set\.PatientNam: unknown keyword; did you mean PatientName\?"),
        ({"remove": ["StudyIDD"]}, r"remove: StudyIDD: neither a keyword.*did you mean StudyID\?"),
        ({"remove": ["0009,10"]}, "neither a keyword"),
        ({"remove": ["0010,GEIIS,10"]}, "a private group is odd"),
        ({"set": {"StudyID": "x" * 17}}, r"set\.StudyID: .*maximum length of 16"),
        ({"set": {"StudyDate": "2026-01-02"}}, "set.StudyDate: Invalid value for VR DA"),
        ({"set": {"StudyDate": "20260230"}}, "set.StudyDate: "),
        ({"set": {"Modality": "ct"}}, "set.Modality: Invalid value for VR CS"),
        ({"set": {"StudyID": "a\\b"}}, "set.StudyID: it has 2 values, separated by backslashes"),
        ({"set": {"StudyID": "a\tb"}}, "set.StudyID: it holds a control character"),
        ({"set": {"StationAETitle": "é"}}, "set.StationAETitle: VR AE has ASCII characters only"),
        ({"set": {"ReferringPhysicianName": "=".join("abcd")}}, "at most three component groups"),
        ({"set": {"ReferringPhysicianName": "x" * 65}}, "at most 64 characters"),
        ({"set": {"ReferringPhysicianName": "^" * 5}}, "at most five components"),
        ({"set": {"ReferencedStudySequence": "x"}}, "its VR is SQ, which is no text"),
        ({"set": {"ReferencedFrameNumber": "1", "SmallestImagePixelValue": "1"}}, "it says how the pixels"),
        ({"set": {"SOPInstanceUID": "1.2"}}, "it says which instance this is"),
        ({"set": {"SOPClassUID": "1.2"}}, "it says which instance this is"),
        ({"set": {"StudyInstanceUID": "1.2"}}, "it says which instance this is"),
        ({"remove": ["SeriesInstanceUID"]}, "it says which instance this is"),
        ({"remove": ["Rows"]}, "it says how the pixels are to be read"),
        ({"remove": ["00280030"]}, "it says how the pixels are to be read"),
        ({"remove": ["00020010"]}, "it belongs to the encoding"),
        ({"set": {"TransferSyntaxUID": "1.2"}}, "it belongs to the encoding"),
        ({"remove": ["00080000"]}, "it belongs to the encoding"),
        ({"remove": ["PixelData"]}, "Pixel Data and what comes after it"),
        ({"remove": ["7fe00001"]}, "Pixel Data and what comes after it"),
        ({"remove": ["FFFCFFFC"]}, "Pixel Data and what comes after it"),
        ({"remove": ["7FE1,ACME,10"]}, "Pixel Data and what comes after it"),
        ({"remove": ["OriginalAttributesSequence"]}, "it records what was changed"),
        ({"remove": ["00090010"]}, "it says whose the private elements are"),
        ({"remove": ["SpecificCharacterSet"]}, "nobody can tell whose the instance is, or read it"),
        ({"remove": ["PatientID"]}, "nobody can tell whose the instance is"),
        ({"remove": ["AccessionNumber"]}, "nobody can tell whose the instance is"),
        ({"set": {"PatientID": "1"}}, 'it tells patients apart, so it is set only with when = "empty"'),
        ({"set": {"SpecificCharacterSet": "UTF8"}}, "is no defined term"),
        ({"set": {"SpecificCharacterSet": ""}}, "is no defined term"),
        ({"set": {"StudyID": "1"}, "remove": ["StudyID"]}, "StudyID is both set and removed"),
        ({"set": {"StudyID": "1"}, "remove": ["00200010"]}, "StudyID is both set and removed"),
    ],
)
def test_a_table_that_would_harm_is_refused_before_anything_starts(table, wrong):
    with pytest.raises(Configuration, match=wrong):
        rules_of(coercing.site(coercion=[table]))


def test_every_mistake_is_told_with_the_number_of_its_table():
    with pytest.raises(Configuration) as told:
        rules_of(coercing.site(coercion=[{}, SET, {"set": {"StudyIDD": "x"}, "remove": ["Rows"]}]))
    assert [line.split(":")[0] for line in str(told.value).splitlines()] == [
        "coercion number 1",
        "coercion number 3.set.StudyIDD",
        "coercion number 3.remove",
    ]


def test_a_table_may_not_ask_for_a_modality_that_a_later_one_changes():
    with pytest.raises(Configuration, match=r"number 1\.modality: coercion number 2 changes Modality afterwards"):
        rules_of(coercing.site(coercion=[SET | {"modality": "CT"}, {"set": {"Modality": "OT"}}]))


@pytest.mark.parametrize(
    "table",
    [
        {"set": {"PatientID": "UNKNOWN"}, "when": "empty"},
        {"set": {"WindowCenter": "40\\400", "BurnedInAnnotation": "NO"}},
        {"set": {"ImageType": "ORIGINAL\\PRIMARY"}},
        {"set": {"StudyTime": "1201", "PatientAge": "042Y", "PatientWeight": "72.5", "SeriesNumber": "3"}},
        {"set": {"SpecificCharacterSet": "\\ISO 2022 IR 87"}},
        {"remove": ["60003000", "0009,GEIIS,10"]},
    ],
)
def test_what_a_site_may_ask_for(table):
    assert rules_of(coercing.site(coercion=[table]))


def test_quarantining_unknown_senders_needs_a_mapping():
    with pytest.raises(Configuration, match=r"needs site\.institution_mapping"):
        rules_of(coercing.site(unknown_institution="quarantine"))


def test_the_examples_of_the_manual_are_right(pytestconfig):
    manual = (pytestconfig.rootpath / "docs/coercion.md").read_text(encoding="utf-8")
    examples = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", manual, re.DOTALL)]
    assert len(examples) == 2
    for example in examples:
        assert rules_of(coercing.site(coercion=example["coercion"]))
