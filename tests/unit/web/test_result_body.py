"""What a download does not hold is said before it is fetched: on the page in both languages, and to programs."""

import dataclasses

import pytest
from support.sites.shim_site import BROWSER, FOUND, NEW

from pipeline import languages as translations
from pipeline.ledger.order_counts import NotThere
from pipeline.model import LeftOutCode, OrderError, OrderState
from pipeline.orders import MadeFile
from pipeline.web.order_page import page_of
from pipeline.web.result_body import falls_short, shortfall

LINK = "/mkiso.php?accession_number=A1"
WHOLE = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "sent": 812}
PRIVATE = NotThere("private SOP class: no reader knows what it is", 2, LeftOutCode.KIND)
GARBLED = NotThere("its compressed pixels cannot be decoded (ValueError)", 1, LeftOutCode.COMPRESSED)
ENGLISH, SPANISH = (translations.languages()[code] for code in ("en", "es"))


def view(**stands):
    made = {"result": MadeFile("/x/1.iso", "1.iso", 5_000_000)}
    return dataclasses.replace(NEW, accessions=("A1",), **{**WHOLE, **made, **stands})


def test_a_download_that_lacks_something_waits_for_a_person_and_says_how_much_and_why(shim):
    shim.orders.plan = {**WHOLE, "result": shim.file(), "left_out": (PRIVATE, GARBLED)}
    text = shim.page(LINK).text
    for sentence in (
        "Ready, but not everything is on it",
        "Not everything of the study is in this download",
        "2 images that were received: of a kind that no disc can hold",
        "1 image that was received: compressed in a way that cannot be undone here",
        "Do not hand it on as the complete study",
        "Download what there is (10 kB)",
        "2 x private SOP class: no reader knows what it is",
    ):
        assert sentence in text, sentence
    assert "http-equiv" not in text
    assert text.index("2 images that were received") < text.index("Download what there is")


def test_the_same_is_said_in_spanish(shim):
    shim.orders.plan = {**WHOLE, "result": shim.file(), "left_out": (PRIVATE, GARBLED)}
    text = shim.page(LINK, **{"Accept-Language": "es"}).text
    for sentence in (
        "Listo, pero no está todo",
        "2 imágenes que sí se recibieron: de un tipo que ningún disco puede contener",
        "1 imagen que sí se recibió: con una compresión que aquí no se puede deshacer",
        "Descargar lo que hay (10 kB)",
    ):
        assert sentence in text, sentence
    assert "http-equiv" not in text


def test_programs_are_told_that_a_download_is_not_complete_and_what_it_lacks(shim):
    shim.orders.plan = {**WHOLE, "result": shim.file(), "left_out": (PRIVATE, GARBLED)}
    page = shim.page(LINK).url.removeprefix(shim.url)
    body = shim.get(page).json()
    assert (body["served"], body["complete"]) == (True, False)
    assert body["left_out"] == [
        {"reason": PRIVATE.reason, "instances": 2, "code": "kind"},
        {"reason": GARBLED.reason, "instances": 1, "code": "compressed"},
    ]
    shim.orders.change(1, left_out=())
    assert (shim.get(page).json()["complete"], shim.get(page).json()["left_out"]) == (True, [])


def test_a_download_that_lacks_nothing_starts_by_itself(shim):
    shim.orders.plan = {**WHOLE, "result": shim.file()}
    text = shim.page(LINK).text
    assert "Ready: the download starts by itself" in text
    assert 'http-equiv="refresh"' in text
    assert "Not everything" not in text


def test_what_was_not_received_or_not_found_does_not_start_by_itself_either(shim):
    asked = {"incomplete_allowed": True, "missing_allowed": True, "error_kind": OrderError.MOVE_INCOMPLETE}
    shim.orders.plan = {
        **WHOLE, **asked, "state": OrderState.PARTIAL, "received": 640, "missing": ("B2",), "result": shim.file(),
    }  # fmt: skip
    text = shim.page("/mkiso_multiple.php?accession_number=A1,B2&incomplete=yes&missing=allow").text
    for sentence in ("172 images that were not received", "Studies that are not in the archive: B2"):
        assert sentence in text
    assert "http-equiv" not in text
    assert shim.get(shim.page(LINK).url.removeprefix(shim.url)).json()["complete"] is False


def test_the_file_is_there_for_whoever_has_read_it(shim):
    shim.orders.plan = {**WHOLE, "result": shim.file(b"image"), "left_out": (PRIVATE,)}
    page = shim.page(LINK).url.removeprefix(shim.url)
    assert shim.get(f"{page}&file=1", headers=BROWSER).content == b"image"


SAID = {
    LeftOutCode.KIND: "of a kind",
    LeftOutCode.COMPRESSED: "compressed",
    LeftOutCode.FILM: "a film",
    LeftOutCode.LARGE: "larger than",
    LeftOutCode.DAMAGED: "damaged",
}


@pytest.mark.parametrize("code", LeftOutCode)
def test_every_code_is_put_in_plain_words_whatever_the_reason_says(code):
    reason = "by its header it would be 5,000,000,000 bytes once decoded, too large for one file"
    (line,) = shortfall(view(left_out=(NotThere(reason, 3, code),)), ENGLISH)
    assert line.startswith("3 images that were received: ")
    assert SAID.get(code, "technical support") in line
    (line,) = shortfall(view(left_out=(NotThere(reason, 1, code),)), SPANISH)
    assert line.startswith("1 imagen que sí se recibió: ")


def test_reasons_of_one_kind_are_one_line_and_their_own_words_stay_for_technical_support():
    many = tuple(
        NotThere(f"truncated: {n} bytes are left where an element must begin", 2, LeftOutCode.DAMAGED)
        for n in range(50)
    )
    page = page_of(view(left_out=many), ENGLISH)
    assert page.short == ("100 images that were received: damaged, or not a whole file",)
    assert page.technical.count("truncated") == 20


def test_what_only_came_late_is_no_shortfall_and_what_is_gone_says_so():
    assert not falls_short(view(late=3))
    gone = page_of(view(result=None, left_out=(PRIVATE,)), ENGLISH)
    assert (gone.heading, gone.download) == ("This download is no longer kept", "")
