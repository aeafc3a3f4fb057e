"""What somebody sees whose request would have mixed two patients, in a browser: whom to ask, and no values."""

import pytest
from support.machine.chromium import chromium
from support.machine.dicom_programs import wait_until
from support.sites.shim_site import FOUND, running_shim

from pipeline.dicom.same_patient import Attribute
from pipeline.model import OrderError
from pipeline.orders.compare_sources import IdentitySource, SourceDifference

pytestmark = pytest.mark.programs

OPERATOR_KEY = "operators-alone-know-it"
DIFFERENCE = SourceDifference(
    "A1", (IdentitySource.PACS, IdentitySource.IMAGES), (Attribute.PATIENT_ID, Attribute.NAME)
)
TWO = {
    "error_kind": OrderError.MORE_THAN_ONE_PATIENT,
    "detail": "the PACS and the images differ in Patient ID, name (A1); nothing was made or sent",
    "differing": (DIFFERENCE,),
    "found": FOUND,
    "expected": 812,
    "received": 812,
}


@pytest.mark.parametrize(
    ("language", "sentences"),
    [
        ("en", ("The archive names one patient, and its images another", "A1: the archive and its images differ")),
        ("es", ("El PACS nombra a un paciente, y sus imágenes a otro", "A1: el PACS y sus imágenes difieren")),
    ],
)
def test_it_says_who_differs_in_what_and_whom_to_ask(tmp_path, monkeypatch, language, sentences):
    with (
        running_shim(tmp_path, monkeypatch, shim={"api_key": ""}) as shim,
        chromium(tmp_path / "chromium") as browser,
    ):
        tab = browser.tab(language=language)
        tab.open(f"{shim.url}/mkiso.php?accession_number=A1")
        shim.orders.change(1, **TWO)
        for sentence in sentences:
            tab.wait_for(sentence)
        tab.screenshot(tmp_path / "screens" / f"two-patients-{language}.png")
        assert tab.run("document.querySelectorAll('details.let-through').length") == 0
        assert browser.complaints() == []


def test_who_has_the_operator_key_lets_it_through_with_a_reason(tmp_path, monkeypatch):
    keys = {"api_key": "", "operator_key": OPERATOR_KEY}
    with running_shim(tmp_path, monkeypatch, shim=keys) as shim, chromium(tmp_path / "chromium") as browser:
        tab = browser.tab(language="en")
        tab.open(f"{shim.url}/mkiso.php?accession_number=A1")
        shim.orders.change(1, **TWO)
        tab.wait_for("For those who may decide")
        for key, words in (("a guess", "This needs the operator key"), (OPERATOR_KEY, "Asking the archive")):
            tab.run("document.querySelector('details.let-through').open = true")
            tab.run("document.querySelector('[name=reason]').value = 'merged on Monday'")
            tab.run(f"document.querySelector('[name=operator_key]').value = {key!r}")
            tab.screenshot(tmp_path / "screens" / "two-patients-operator.png")
            tab.run("document.querySelector('details.let-through button').click()")
            tab.wait_for(words)
            if key != OPERATOR_KEY:
                assert len(shim.orders.asked) == 1
                tab.run("history.back()")
                tab.wait_for("For those who may decide")
        wait_until(lambda: len(shim.orders.asked) == 2, what="the second order")
        assert shim.orders.asked[-1]["allow_identity"] == "merged on Monday"
