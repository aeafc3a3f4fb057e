"""Original Attributes Sequence: what is recorded of a change (PS3.3 C.12.1.1.9)."""

from datetime import UTC, datetime

import pytest
from pydicom import Dataset
from pydicom.sequence import Sequence
from support.sites import coercing
from support.studies import geiis

from pipeline.coercions import coerce, rules_of
from pipeline.dicom.attributes.elements import bytes_of, element_of, put, raw_element


def coerced(dataset, *, sender=None, **keys):
    header = coercing.header(geiis.file_of(dataset))
    coerce(header, sender or coercing.origin(), rules_of(coercing.site(**keys)))
    return coercing.reread(header)


def test_one_item_says_who_changed_what_when_and_why():
    (item,) = coerced(geiis.ct()).OriginalAttributesSequence
    assert item.AttributeModificationDateTime == "20260102030405+0000"
    assert item.ModifyingSystem == "STORESTOW modalities"
    assert item.SourceOfPreviousValues == "CT1"
    assert item.ReasonForTheAttributeModification == "COERCE"
    assert len(item.ModifiedAttributesSequence) == 1


def test_the_time_is_that_of_admission_so_that_the_same_input_gives_the_same_bytes():
    late = coercing.origin(admitted_at=datetime(2026, 1, 2, 3, 4, 5, 999999, tzinfo=UTC))
    one, other = coerced(geiis.ct()), coerced(geiis.ct(), sender=late)
    assert coercing.header_bytes(one) == coercing.header_bytes(other)


def test_previous_values_are_kept_and_what_was_absent_has_zero_length():
    (before,) = coerced(geiis.ct(), default_coercions="always").OriginalAttributesSequence[0][0x04000550].value
    assert before.StudyID == "7"
    assert before.ReferringPhysicianName == ""
    assert bytes_of(element_of(before, 0x00081060)) == b""
    assert sorted(before.keys()) == [0x00080090, 0x00081060, 0x00200010]


def test_items_of_earlier_systems_stay_byte_for_byte():
    earlier = Dataset()
    modified = Dataset()
    modified.PatientID = "OLD"
    earlier.ModifiedAttributesSequence = [modified]
    earlier.AttributeModificationDateTime = "2019"
    earlier.ModifyingSystem = "ANOTHER"
    earlier.ReasonForTheAttributeModification = "CORRECT"
    ct = geiis.ct()
    ct.OriginalAttributesSequence = [earlier]
    received = bytes_of(element_of(coercing.header(geiis.file_of(ct)), 0x04000561))
    after = coerced(ct)
    assert bytes_of(element_of(after, 0x04000561)).startswith(received)
    assert [item.ModifyingSystem for item in after.OriginalAttributesSequence] == [
        "ANOTHER",
        "STORESTOW modalities",
    ]


def test_what_earlier_systems_wrote_is_not_even_parsed():
    group_length = b"\x10\x00\x00\x00UL\x04\x00\x00\x00\x00\x00"  # retired, and dropped by whoever rewrites
    received = b"\xfe\xff\x00\xe0" + len(group_length).to_bytes(4, "little") + group_length
    header = coercing.header(geiis.file_of(geiis.ct()))
    put(header, raw_element(header, 0x04000561, "SQ", received))
    header = coercing.reread(header)
    coerce(header, coercing.origin(), rules_of(coercing.site()))
    assert bytes_of(element_of(header, 0x04000561)).startswith(received)


def test_items_of_earlier_systems_stay_where_the_sequence_has_no_length():
    earlier = Dataset()
    earlier.ModifyingSystem = "ANOTHER"
    earlier.is_undefined_length_sequence_item = True
    ct = geiis.ct()
    ct.OriginalAttributesSequence = Sequence([earlier])
    ct["OriginalAttributesSequence"].is_undefined_length = True
    after = coerced(ct)
    assert [item.ModifyingSystem for item in after.OriginalAttributesSequence] == [
        "ANOTHER",
        "STORESTOW modalities",
    ]


@pytest.mark.parametrize("length_is_known", [True, False])
def test_a_removed_thumbnail_is_recorded_with_its_creator_but_without_its_pixels(length_is_known):
    after = coerced(geiis.with_thumbnail(0x11, length_is_known=length_is_known), default_coercions="off")
    (before,) = after.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert before[0x00090011].value == "GEIIS"
    assert len(before[0x00091110].value) == 0
    assert geiis.JPEG not in coercing.header_bytes(after)


def test_a_removed_sequence_is_recorded_whole():
    code = Dataset()
    code.CodeValue = "42"
    code.CodeMeaning = "Größe"
    ct = geiis.ct()
    ct.RequestingServiceCodeSequence = [code]
    after = coerced(ct, default_coercions="off")
    (before,) = after.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert before.RequestingServiceCodeSequence[0].CodeMeaning == "Größe"
    assert 0x00321034 not in after


@pytest.mark.parametrize("title", ["", "A\\B", "Ä\x00\x1b", "x" * 80])
def test_whatever_a_peer_calls_itself_makes_one_valid_value(title):
    (item,) = coerced(geiis.ct(), sender=coercing.origin(title)).OriginalAttributesSequence
    assert isinstance(item.SourceOfPreviousValues, str)
    assert len(item.SourceOfPreviousValues) <= 64
    assert str(item.SourceOfPreviousValues).isascii()


def test_a_second_pass_adds_no_second_item():
    once = coerced(geiis.with_thumbnail())
    first = coercing.header_bytes(once)
    assert coerce(once, coercing.origin(), rules_of(coercing.site())).changes == ()
    assert coercing.header_bytes(once) == first
    assert len(once.OriginalAttributesSequence) == 1


def test_a_character_set_that_is_declared_here_is_recorded_as_absent_before():
    ct = geiis.ct()
    del ct.SpecificCharacterSet
    ct.PatientName = "Mueller"
    table = {"set": {"SpecificCharacterSet": "ISO_IR 100"}, "when": "empty"}
    after = coerced(ct, default_coercions="off", coercion=[table])
    assert after.SpecificCharacterSet == "ISO_IR 100"
    (before,) = after.OriginalAttributesSequence[0].ModifiedAttributesSequence
    assert bytes_of(element_of(before, 0x00080005)) in {b"", None}
    assert list(before.keys()) == [0x00080005]
