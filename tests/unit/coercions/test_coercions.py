"""Coercion by clinical situation: what a study brings along, and what leaves."""

import pickle

import pydicom
import pytest
from support.sites import coercing
from support.studies import geiis

from pipeline.coercions import coerce, rules_of
from pipeline.dicom.attributes.elements import bytes_of, element_of
from pipeline.errors import StorestowError
from pipeline.model import Change


def keywords(changes):
    return {change.keyword: change.after for change in changes}


def coerced_ct(*, coercion=(), change=lambda _ct: None, folder="/nowhere", sender=None, **keys):
    ct = geiis.ct()
    change(ct)
    header = coercing.header(geiis.file_of(ct))
    changes = coerce(
        header, sender or coercing.origin(), rules_of(coercing.site(folder, coercion=coercion, **keys))
    ).changes
    return header, changes


def test_an_empty_referring_physician_gets_the_value_the_archive_can_hold():
    header, changes = coerced_ct()
    assert keywords(changes) == {
        "ReferringPhysicianName": "-^-^-^-",
        "NameOfPhysiciansReadingStudy": "-^-^-",
    }
    after = coercing.reread(header)
    assert after.ReferringPhysicianName == "-^-^-^-"
    assert after.NameOfPhysiciansReadingStudy == "-^-^-"
    assert after.StudyID == "7"


@pytest.mark.parametrize(
    "empty",
    [
        "",
        "^^^^",
        " ",
        "^ ^",
        "\0",
        "==",
        "^^^=^^^^=",
        "\\",
        " ^\\ = \\^ ",
        '""',
        '""^""=""',
        "\t",
        "\r\n",
        "^\x7f",
    ],
)
def test_a_name_of_blanks_delimiters_and_deletions_says_nothing(empty):
    def no_physician(ct):
        ct.ReferringPhysicianName = empty

    _, changes = coerced_ct(change=no_physician)
    assert keywords(changes)["ReferringPhysicianName"] == "-^-^-^-"


@pytest.mark.parametrize("said", ["x", "^^^Dr", "==x", "a\\", "-", '"', '"x"', "0", "."])
def test_a_name_in_which_anything_is_said_stays(said):
    def referred(ct):
        ct.ReferringPhysicianName = said

    _, changes = coerced_ct(change=referred)
    assert "ReferringPhysicianName" not in keywords(changes)


@pytest.mark.parametrize("empty", ["\t", '""', "\\", " \\ "])
def test_a_study_id_that_says_nothing_gets_the_default(empty):
    def unnumbered(ct):
        ct.StudyID = empty

    _, changes = coerced_ct(change=unnumbered)
    assert keywords(changes)["StudyID"] == "29991231235959"


def test_a_referring_physician_is_kept_when_only_empty_values_are_filled():
    def referred(ct):
        ct.ReferringPhysicianName = "House^Gregory"

    header, changes = coerced_ct(change=referred)
    assert "ReferringPhysicianName" not in keywords(changes)
    assert coercing.reread(header).ReferringPhysicianName == "House^Gregory"


def test_always_replaces_what_the_modality_says_as_the_old_code_did():
    def referred(ct):
        ct.ReferringPhysicianName = "House^Gregory"

    _, changes = coerced_ct(change=referred, default_coercions="always")
    assert keywords(changes) == {
        "ReferringPhysicianName": "-^-^-^-",
        "NameOfPhysiciansReadingStudy": "-^-^-",
        "StudyID": "29991231235959",
    }
    assert {c.keyword: c.before for c in changes}["ReferringPhysicianName"] == "House^Gregory"


def test_off_fills_nothing_but_still_removes_what_no_archive_can_read():
    def requested(ct):
        ct.RequestingServiceCodeSequence = [pydicom.Dataset()]
        geiis.add_thumbnail(ct, 0x10)

    header, changes = coerced_ct(change=requested, default_coercions="off")
    assert keywords(changes) == {"RequestingServiceCodeSequence": None, "0009,GEIIS,10": None}
    assert 0x00321034 not in header
    assert 0x00091010 not in header


@pytest.mark.parametrize("block", [0x10, 0x11, 0xFF])
@pytest.mark.parametrize("length_is_known", [True, False])
def test_the_thumbnail_goes_wherever_its_block_lies_and_the_pixels_stay(block, length_is_known):
    dataset = geiis.with_thumbnail(block, length_is_known=length_is_known)
    header = coercing.header(geiis.file_of(dataset))
    changes = coerce(header, coercing.origin(), rules_of(coercing.site(default_coercions="off"))).changes
    (change,) = changes
    assert (change.keyword, change.after) == ("0009,GEIIS,10", None)
    assert change.before.startswith("SQ, ")
    after = coercing.reread(header)
    assert 0x00090010 | block << 8 not in after
    assert geiis.JPEG not in coercing.header_bytes(header)


def test_the_same_element_of_another_creator_stays():
    dataset = geiis.with_thumbnail(0x10)
    dataset.add_new(0x00090011, "LO", "SOMEONE ELSE")
    dataset.add_new(0x00091110, "LO", "keep me")
    header = coercing.header(geiis.file_of(dataset))
    coerce(header, coercing.origin(), rules_of(coercing.site()))
    assert 0x00091010 not in header
    assert bytes_of(element_of(header, 0x00091110)) == b"keep me "


def test_a_thumbnail_whose_creator_stands_in_element_11_leaves_the_block_at_10_alone():
    dataset = geiis.with_thumbnail(0x11)
    dataset.add_new(0x00090010, "LO", "GEMS_IDEN_01")
    dataset.add_new(0x00091010, "LO", "another maker's element")
    header = coercing.header(geiis.file_of(dataset))
    coerce(header, coercing.origin(), rules_of(coercing.site()))
    assert 0x00091110 not in header
    assert 0x00091010 in header


def test_the_institution_of_the_mapping_replaces_the_modality_s_own(tmp_path):
    (tmp_path / "map.json").write_text('{"CT1": "Clínica São José"}', encoding="utf-8")
    header, changes = coerced_ct(folder=tmp_path, institution_mapping="map.json", default_coercions="off")
    (change,) = changes
    assert (change.before, change.after, change.rule) == ("Old Name", "Clínica São José", "institution")
    assert bytes_of(element_of(header, 0x00080080)) == "Clínica São José".encode("latin-1")
    assert coercing.reread(header).PatientName == "Müller^Jörg"


def test_a_value_that_is_there_already_is_no_change(tmp_path):
    (tmp_path / "map.json").write_text('{"CT1": "Old Name"}')
    ct = coercing.header(geiis.file_of(geiis.ct()))
    before = coercing.header_bytes(ct)
    rules = rules_of(coercing.site(tmp_path, institution_mapping="map.json", default_coercions="off"))
    result = coerce(ct, coercing.origin(), rules)
    assert result.changes == ()
    assert result.touched == frozenset()
    assert coercing.header_bytes(ct) == before


def test_an_unknown_sender_keeps_its_institution(tmp_path):
    (tmp_path / "map.json").write_text('{"CT2": "Elsewhere"}')
    _, changes = coerced_ct(folder=tmp_path, institution_mapping="map.json", default_coercions="off")
    assert changes == ()


def test_an_unknown_sender_is_quarantined_with_the_line_to_paste_where_the_site_wants_it(tmp_path):
    (tmp_path / "map.json").write_text('{"CT2": "Elsewhere"}')
    with pytest.raises(StorestowError, match=r'map\.json: "CT1": "<InstitutionName>"'):
        coerced_ct(folder=tmp_path, institution_mapping="map.json", unknown_institution="quarantine")


def test_the_site_s_own_rule_has_the_last_word():
    table = {"set": {"ReferringPhysicianName": "Nobody^Known"}, "when": "always"}
    _, changes = coerced_ct(coercion=[table])
    (change,) = [c for c in changes if c.keyword == "ReferringPhysicianName"]
    assert (change.before, change.after, change.rule) == ("", "Nobody^Known", "coercion 1")


def test_a_rule_that_puts_back_what_was_there_leaves_no_trace():
    header, changes = coerced_ct(
        default_coercions="off",
        coercion=[{"set": {"StudyDescription": "x"}}, {"remove": ["StudyDescription"]}],
    )
    assert changes == ()
    assert 0x04000561 not in header
    assert 0x00081030 not in header


def test_rules_travel_to_other_processes(tmp_path):
    (tmp_path / "map.json").write_text('{"CT1": "A"}')
    rules = rules_of(coercing.site(tmp_path, institution_mapping="map.json", coercion=[{"remove": ["StudyID"]}]))
    assert pickle.loads(pickle.dumps(rules)) == rules


@pytest.mark.parametrize("tag", [0x7FE00010, 0x04000561, 0x00020010])
def test_no_rule_touches_pixels_file_meta_or_the_record_of_changes(tag):
    class Overreaching:
        name = "overreaching"

        def propose(self, _dataset, _origin):
            yield Change(tag, "x", None, None, None, self.name)

    with pytest.raises(StorestowError, match="overreaching may not change"):
        coerce(coercing.header(geiis.file_of(geiis.ct())), coercing.origin(), [Overreaching()])


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"])
def test_every_encoding_of_a_data_set_is_kept(syntax, tmp_path):
    (tmp_path / "map.json").write_text('{"CT1": "Łódź"}', encoding="utf-8")
    ct = geiis.ct()
    if syntax == "1.2.840.10008.1.2.2":
        del ct.PixelData  # pydicom does not swap it, and it is not asked for here
    header = coercing.header(geiis.file_of(ct, syntax))
    coerce(header, coercing.origin(), rules_of(coercing.site(tmp_path, institution_mapping="map.json")))
    after = coercing.reread(header)
    assert after.InstitutionName == "Łódź"
    assert after.PatientName == "Müller^Jörg"
    assert after.OriginalAttributesSequence[0].ModifiedAttributesSequence[0].InstitutionName == "Old Name"


def test_the_rules_of_a_site_are_unpickled_once_in_a_process():
    rules = rules_of(coercing.site("/nowhere", coercion=[{"set": {"StationName": "CT1"}}]))
    first, second = (pickle.loads(pickle.dumps((rules, number)))[0] for number in range(2))
    assert first == rules
    assert first is second
    assert pickle.loads(pickle.dumps(first)) is first
    other = rules_of(coercing.site("/nowhere", coercion=[{"set": {"StationName": "CT2"}}]))
    assert pickle.loads(pickle.dumps(other)) == other != first
