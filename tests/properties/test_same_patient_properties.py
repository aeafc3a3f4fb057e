"""What must hold of the one rule for whose images these are, whatever names and numbers there are."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.dicom.patient import Patient
from pipeline.dicom.person_names import folded, is_new_family_name, names_agree, names_equal
from pipeline.dicom.same_patient import compare, is_placeholder, judge

words = st.text(st.sampled_from("ABEOUÄÖÜÅØŁĐßÆÉÑabé'-"), min_size=1, max_size=7)
letters = st.text(st.characters(codec="utf-8", exclude_characters="^=\\"), max_size=8)
components = st.lists(words | letters, max_size=5).map("^".join)
names = st.lists(components, max_size=3).map("=".join)
identifiers = st.sampled_from(["", "0", "W/I", "P1", "p1", "P2", "unknown"]) | st.text(max_size=5)
dates = st.sampled_from(["", "19700101", "19700102"])
patients = st.builds(Patient.of, identifiers, st.sampled_from(["", "H", "K"]), dates, names)
said = st.lists(st.tuples(st.sampled_from(["1.1", "1.2", "1.3"]), patients), max_size=5)


@given(patients, patients, st.booleans(), st.booleans())
def test_it_does_not_matter_which_of_two_is_asked_about_the_other(one, other, is_same_study, ignores_case):
    how = {"is_same_study": is_same_study, "ignores_case": ignores_case}
    assert compare(one, other, **how) == compare(other, one, **how)
    assert names_agree(one.name, other.name) == names_agree(other.name, one.name)
    assert names_equal(one.name, other.name) == names_equal(other.name, one.name)
    assert is_new_family_name(one.name, other.name) == is_new_family_name(other.name, one.name)


@given(said)
def test_it_does_not_matter_in_which_order_they_come_or_how_often(some):
    found = judge(some)
    again = judge([*reversed(some), *some])
    assert (found.is_one, found.differs, found.noted) == (again.is_one, again.differs, again.noted)


@given(patients)
def test_everybody_is_one_with_themselves_within_a_study(patient):
    assert judge([("1.1", patient), ("1.1", patient)]).is_one


@given(said, st.tuples(st.just("1.9"), patients))
def test_nobody_becomes_one_patient_by_one_more_witness_of_another_study(some, witness):
    if not judge(some).is_one:
        assert not judge([*some, witness]).is_one


@given(patients, patients)
def test_another_patient_id_is_another_person_whatever_the_name(one, other):
    is_proof = not (is_placeholder(one.identifier) or is_placeholder(other.identifier))
    if is_proof and one.identifier != other.identifier:
        same = Patient(other.identifier, other.issuer, one.birth_date, one.name)
        assert not judge([("1.1", one), ("1.1", same)]).is_one


@given(st.lists(words, min_size=1, max_size=4), st.lists(words, max_size=3))
def test_words_that_are_among_the_others_agree_in_any_order_and_case(some, more):
    few, many = "^".join(some), " ".join([*more, *reversed(some)]).lower()
    assert names_agree(few, many) or not folded(few).strip("^'- ")


@given(st.text(st.sampled_from("ÄÖÜABCDFGH"), min_size=1, max_size=9))
def test_a_letter_two_letters_for_it_and_the_bare_letter_are_the_same_spelling(name):
    two = name.replace("Ä", "AE").replace("Ö", "OE").replace("Ü", "UE")
    bare = name.replace("Ä", "A").replace("Ö", "O").replace("Ü", "U")
    assert folded(name) == folded(two) == folded(bare)


@given(names, names)
def test_one_group_that_is_the_same_is_enough(one, other):
    shared = "YAMADA^HANA"
    assert names_agree(f"{one}={shared}", f"{shared}={other}")


@given(st.text())
def test_folding_twice_changes_nothing_more(text):
    assert folded(folded(text)) == folded(text)
