"""Whose the images are, as links and pages tell it: between whom, in what, and who may let it through."""

import pytest
from support.sites.shim_site import FOUND, KEY, running_shim, settings_of

from pipeline.dicom.same_patient import Attribute
from pipeline.errors import Configuration
from pipeline.model import OrderError, OrderState
from pipeline.orders.compare_sources import IdentitySource, SourceDifference
from pipeline.web.api_key import OPERATOR_VARIABLE, keyring_of
from pipeline.web.site_checks import looked_at

OPERATOR_KEY = "operators-alone-know-it"
PRINT = "/api/iso/print?accession_number=A1"
PACS_IMAGES = SourceDifference(
    "A1", (IdentitySource.PACS, IdentitySource.IMAGES), (Attribute.PATIENT_ID, Attribute.BIRTH_DATE)
)
HIS_PACS = SourceDifference("A1", (IdentitySource.HIS, IdentitySource.PACS), (Attribute.NAME,))
ROW = {"accession_number": "A1", "between": ["pacs", "images"], "attributes": ["patient_id", "patient_birth_date"]}
TWO = {"error_kind": OrderError.MORE_THAN_ONE_PATIENT, "received": 3, "expected": 3, "found": FOUND}
DONE = {"state": OrderState.DONE, "found": FOUND, "expected": 3, "received": 3, "sent": 3}


@pytest.fixture
def shim(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch, shim={"operator_key": OPERATOR_KEY}) as running:
        yield running


def page_of_two(shim, *differing: SourceDifference):
    shim.orders.plan = {**TWO, "differing": differing}
    return shim.page(PRINT)


def test_a_program_is_told_between_whom_and_in_what(shim):
    shim.orders.plan = {**TWO, "differing": (PACS_IMAGES,)}
    answer = shim.get(PRINT)
    assert answer.status_code == 409
    body = answer.json()
    assert (body["error"], body["differing"]) == ("more than one patient", [ROW])


def test_what_is_only_noted_stands_in_the_answer_and_on_the_page(shim):
    shim.orders.plan = {**DONE, "noted": (HIS_PACS,), "accession_differs": 2, "his": "not asked"}
    body = shim.get(PRINT).json()
    assert body["noted"] == [
        {"accession_number": "A1", "between": ["his", "pacs"], "attributes": ["patient_name"]}
    ]
    assert (body["accession_differs"], body["identity"]) == (2, "not asked")
    text = shim.page(PRINT).text
    assert "A1: the information system and the archive differ in name" in text
    assert "2 images bear another accession number" in text
    assert "it was not asked whose examination this is" in text


def test_an_answer_with_nothing_to_note_is_as_it_was(shim):
    shim.orders.plan = DONE
    assert not shim.get(PRINT).json().keys() & {"noted", "differing", "accession_differs", "identity"}


@pytest.mark.parametrize(
    ("differing", "heading"),
    [
        ([PACS_IMAGES], "The archive names one patient, and its images another"),
        ([HIS_PACS], "The information system and the archive name two different patients"),
        (
            [SourceDifference("A1", (IdentitySource.IMAGES,), (Attribute.NAME,)), PACS_IMAGES],
            "The images of this examination are not all of one patient",
        ),
        (
            [SourceDifference(number, (IdentitySource.PACS,), (Attribute.NAME,)) for number in ("A1", "B2")],
            "These numbers belong to more than one patient",
        ),
        ([], "These numbers belong to more than one patient"),
    ],
)
def test_the_page_says_in_words_what_differs(shim, differing, heading):
    assert heading in page_of_two(shim, *differing).text


def let_through(shim, page, **fields):
    *_, (action, hidden) = forms(page)
    where = action if action.startswith("/") else page.url.removeprefix(shim.url).partition("?")[0] + action
    return shim.request("POST", where, data={**hidden, **fields})


def forms(page):
    from support.sites.shim_site import forms_of

    return forms_of(page)


def test_a_person_with_the_operator_key_lets_a_difference_between_sources_through(shim):
    page = page_of_two(shim, PACS_IMAGES)
    answer = let_through(shim, page, reason="  merged on\tMonday ", operator_key=OPERATOR_KEY)
    assert answer.status_code == 303
    assert shim.orders.asked[-1]["allow_identity"] == "  merged on\tMonday "


@pytest.mark.parametrize("key", ["", "wrong", KEY])
def test_nobody_else_does(shim, key):
    page = page_of_two(shim, PACS_IMAGES)
    asked = len(shim.orders.asked)
    answer = let_through(shim, page, reason="merged on Monday", operator_key=key)
    assert (answer.status_code, answer.json()["error"]) == (403, "operator key missing or wrong")
    assert len(shim.orders.asked) == asked


def test_two_patients_in_one_source_are_nobody_s_to_let_through(shim):
    assert "let-through" in page_of_two(shim, PACS_IMAGES).text
    shim.orders.forget()
    assert (
        "let-through"
        not in page_of_two(shim, PACS_IMAGES, SourceDifference("A1", (IdentitySource.IMAGES,), ())).text
    )


def test_without_an_operator_key_no_page_offers_it_and_no_word_opens_it(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        page = page_of_two(shim, PACS_IMAGES)
        assert "let-through" not in page.text
        assert let_through(shim, page, reason="merged on Monday", operator_key="").status_code == 403


def test_the_operator_key_is_none_that_proxies_add_for_everybody(tmp_path, monkeypatch):
    with pytest.raises(Configuration, match="operator_key is the api_key"):
        keyring_of(settings_of(tmp_path, shim={"operator_key": KEY}))
    monkeypatch.setenv(OPERATOR_VARIABLE, OPERATOR_KEY)
    keyring = keyring_of(settings_of(tmp_path, shim={"operator_key": "another"}))
    assert keyring.is_operator(OPERATOR_KEY)
    assert not keyring.is_operator("another")
    assert not keyring_of(settings_of(tmp_path)).is_operator("")


def test_a_short_operator_key_is_told(tmp_path):
    (note,) = [
        said for _, said in looked_at(settings_of(tmp_path, shim={"operator_key": "short"})) if "operator" in said
    ]
    assert "5 characters" in note
