"""What the HIS, the PACS and the images say of one accession number: what contradicts, and what is only noted."""

import pytest

from pipeline.config.order_tables import PatientsTable
from pipeline.dicom.patient import Patient
from pipeline.dicom.same_patient import PLACEHOLDERS, Attribute
from pipeline.orders.compare_sources import IdentitySource, SourceDifference, SourceStatement, pacs_and_images
from pipeline.orders.his import among, his_and_pacs
from pipeline.patients import Person

ID, NAME = Attribute.PATIENT_ID, Attribute.NAME
ANN = Patient("0017-A", "", "19700101", "ROE^ANN MARIE=ロー^アン")


def compared(medrec_id, name, patient=ANN, **table):
    people = {"A1": Person("A1", medrec_id=medrec_id, patient_name=name)}
    found = his_and_pacs(people, [SourceStatement("A1", "1.2", patient)], PatientsTable(**table), PLACEHOLDERS)
    for one in (*found.differing, *found.noted):
        assert (one.accession_number, one.between) == ("A1", (IdentitySource.HIS, IdentitySource.PACS))
    return (
        [attribute for one in found.differing for attribute in one.attributes],
        [attribute for one in found.noted for attribute in one.attributes],
    )


@pytest.mark.parametrize("medrec_id", ["0017-A", "17a", "17 A", "000017.a"])
@pytest.mark.parametrize("name", ["ROE ANN MARIE", "Marie Ann Roe", "Dr. Roe, Ann", "ロー アン", None])
def test_one_person_otherwise_written_is_one_person(medrec_id, name):
    assert compared(medrec_id, name) == ([], [])


@pytest.mark.parametrize(
    ("medrec_id", "name", "differs", "noted"),
    [
        ("99", "POE BOB", [ID, NAME], []),
        ("99", None, [ID], []),
        ("99", "ROE ANN", [], [ID]),
        ("17A", "POE BOB", [], [NAME]),
        (None, "POE BOB", [NAME], []),
        ("W/I", "POE BOB", [NAME], []),
        ("W/I", "ANN ROE", [], []),
        (None, "ANN ROE", [], []),
        ("000", None, [], []),
    ],
)
def test_two_facts_that_differ_contradict_one_is_noted(medrec_id, name, differs, noted):
    assert compared(medrec_id, name) == (differs, noted)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("SITI", "SITI^AMINAH"),
        ("LI?", "LIN^MEI"),
        ("?????? ANNA", "SCHMIDT^ANNA"),
        ("SCHMIDT ANNA", "?????? ANNA"),
        ("UNKNOWN", "UNKNOWN"),
    ],
)
def test_names_that_agree_in_little_do_not_make_one_patient_of_two_ids(name, named):
    assert compared("99", name, Patient("17A", "", "", named)) == ([ID], [])
    assert compared("17a", name, Patient("17A", "", "", named)) == ([], [])
    assert compared(None, name, Patient("17A", "", "", named)) == ([], [])


def test_a_placeholder_in_the_pacs_leaves_the_name_to_decide():
    nobody = Patient("UNKNOWN", "", "", "ROE^ANN")
    assert compared("17A", "ROE ANN", nobody) == ([], [])
    assert compared("17A", "POE BOB", nobody) == ([NAME], [])
    assert compared("17A", None, nobody) == ([], [])


def test_an_answer_of_the_pacs_without_name_is_told_by_the_id():
    assert compared("17A", "ANN ROE", Patient("17A")) == ([], [])
    assert compared("99", "ANN ROE", Patient("17A")) == ([ID], [])


@pytest.mark.parametrize(("name", "differs"), [("ANN ROE", []), ("POE BOB", [NAME]), (None, [])])
@pytest.mark.parametrize("medrec_id", ["17A", "99", None])
def test_where_the_number_of_the_his_is_no_patient_id_the_name_alone_decides(medrec_id, name, differs):
    assert compared(medrec_id, name, patient_id="other") == (differs, [])


def test_titles_are_the_site_s_to_say():
    doctor = Patient("W/I", "", "", "MBAK ROE^ANN MARIE")
    assert compared("99", "BAPAK ANN MARIE ROE", doctor) == ([NAME], [])
    assert compared("99", "BAPAK ANN MARIE ROE", doctor, titles=["mbak", "Bapak"]) == ([], [])


@pytest.mark.parametrize(
    ("one", "other", "attribute"),
    [
        (("17", "ROE ANN"), ("0017", "ROE A"), None),
        (("17", "ROE ANN"), ("18", "ROE ANN"), ID),
        (("1-23", "ROE ANN"), ("12-3", "ROE ANN"), ID),
        (("17", "ROE ANN"), (None, "POE BOB"), NAME),
        (("17", "ROE ANN"), (None, "Ann Roe"), None),
        (("17", None), (None, "POE BOB"), None),
    ],
)
def test_the_his_may_contradict_itself(one, other, attribute):
    people = {
        f"A{number}": Person(f"A{number}", medrec_id=said[0], patient_name=said[1])
        for number, said in enumerate((one, other))
    }
    expected = (
        [SourceDifference(number, (IdentitySource.HIS,), (attribute,)) for number in people] if attribute else []
    )
    found = among(people, PatientsTable())
    assert list(found.differing) == expected
    assert found.may_be_allowed is not bool(expected)


# --- the PACS and the images ----------------------------------------------------------------------------------


def told(*images, by_patient_id=False):
    named = {"1.2": (ANN,)}
    came = [SourceStatement("A1", "1.2", one) for one in images]
    found = pacs_and_images(named, came, PLACEHOLDERS, by_patient_id=by_patient_id)
    return (
        [attribute for one in found.differing for attribute in one.attributes],
        [attribute for one in found.noted for attribute in one.attributes],
    )


RENAMED = Patient("0017-A", "", "19700102", "POE^BOB")


def test_a_pacs_that_corrects_its_database_alone_has_to_agree_in_the_patient_id():
    assert told(RENAMED) == ([NAME, Attribute.BIRTH_DATE], [])
    assert told(RENAMED, by_patient_id=True) == ([], [NAME, Attribute.BIRTH_DATE])
    assert told(Patient("99", "", "19700101", "ROE^ANN"), by_patient_id=True) == ([ID], [])


def test_there_a_placeholder_leaves_the_rest_to_decide():
    nobody = Patient("W/I", "", "19700102", "POE^BOB")
    assert told(nobody, by_patient_id=True) == ([NAME, Attribute.BIRTH_DATE], [])


def test_the_pacs_may_write_patient_ids_in_another_case_than_the_images():
    assert told(Patient("0017-a", "", "19700101", "ROE^ANN")) == ([], [])


def test_one_image_of_another_patient_is_enough():
    assert told(ANN, ANN, Patient("99", "", "19700101", "ROE^ANN")) == ([ID], [])
