"""The pages for people are safe in a browser, and say every state in every language."""

import dataclasses
import re

import pytest
from support.sites.page_elements import Elements
from support.sites.shim_site import BROWSER, FOUND, NEW, below_orders, running_shim

from pipeline import languages as translations
from pipeline.model import OrderError, OrderStage, OrderState
from pipeline.orders import MadeFile
from pipeline.web import patient_names
from pipeline.web.http_errors import kinds
from pipeline.web.order_page import page_of
from pipeline.web.order_request import Verb
from pipeline.web.order_service import reference_of

LINK = "/mkiso.php?accession_number=A1"
ENGLISH = translations.languages()["en"]


@pytest.fixture(scope="module", autouse=True)
def _every_patient_is_jane():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patient_names.PatientNames, "name_of", lambda *_: "DOE^<JANE>")
        yield


def test_a_page_without_the_key_is_a_page_that_tells_nothing(shim):
    answer = shim.request("GET", "/orders/1-0123456789abcdef", key=None, headers=BROWSER)
    assert answer.status_code == 401
    assert "Open it from the information system" in answer.text


@pytest.mark.parametrize(
    "reference",
    [
        "1",
        "1-",
        "1-0000000000000000",
        "2-0123456789abcdef",
        "x",
        "-1",
        "1-%00",
        "1%2F..",
        "9" * 30,
        "\u0661-x",
        "é",
    ],
)
def test_an_order_is_found_by_its_whole_name_only(shim, reference):
    shim.page(LINK)
    for rest in ("", "/file"):
        assert shim.get(f"/orders/{reference}{rest}").status_code == 404
    assert shim.request("POST", f"/orders/{reference}/again").status_code == 404
    assert len(shim.orders.views) == 1


def test_an_order_of_the_command_line_has_no_page(shim):
    page = shim.page(LINK).url.removeprefix(shim.url)
    known = shim.orders.views[1]
    shim.orders.views[1] = dataclasses.replace(known, verb="retrieve")
    assert shim.get(f"/orders/{reference_of(shim.orders.views[1])}").status_code == 404
    shim.orders.views[1] = known
    assert shim.get(page).status_code == 200


def test_the_name_of_an_order_is_no_other_orders_after_the_ledger_was_rebuilt(shim):
    page = shim.page(LINK).url.removeprefix(shim.url)
    shim.orders.views[1] = dataclasses.replace(shim.orders.views[1], created_at=1.0)
    assert shim.get(page).status_code == 404


def test_a_form_that_is_too_long_or_no_form_is_refused(shim):
    again = below_orders(shim.page(LINK).url) + "/again"
    assert shim.request("POST", again, data="a" * 5000).status_code == 413
    assert shim.request("POST", again, data=b"\xff\xfe").status_code == 400
    assert shim.request("POST", again, data="&".join("a=1" for _ in range(50))).status_code == 400
    assert len(shim.orders.asked) == 1


def test_the_start_page_offers_what_the_site_has(shim):
    page = Elements(shim.page("/").text)
    assert [button["formaction"] for button in page.of("button")] == [
        "api/iso/download-multiple",
        "api/iso/print",
        "api/iso/forward",
    ]


def test_too_many_at_once_is_a_page_that_tries_again(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch, shim={"max_concurrent": 1}) as shim:
        shim.page("/mkiso.php?accession_number=A1")
        answer = shim.page("/mkiso.php?accession_number=A2&modality=MR")
        assert answer.status_code == 503
        assert re.search(r'http-equiv="refresh" content="\d+"', answer.text)
        assert 'href="?accession_number=A2&amp;modality=MR"' in answer.text


HOSTILE = "<script>'\"&"


@pytest.mark.parametrize("path", ["/", LINK, "/mkiso.php?accession_number=*", "/nowhere"])
def test_every_page_forbids_what_it_does_not_need(shim, path):
    answer = shim.page(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    for tag, attributes in Elements(answer.text).found:
        assert tag != "style"
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert tag != "script" or attributes["src"] == "?asset=page.js"


def test_nothing_of_a_request_or_a_peer_becomes_part_of_a_page(shim):
    shim.orders.plan = {
        "error_kind": OrderError.NO_DATA,
        "detail": f"the PACS says {HOSTILE}",
        "missing": (HOSTILE,),
        "found": (dataclasses.replace(FOUND[0], modalities=(HOSTILE,)),),
    }
    answer = shim.page("/mkiso.php?accession_number=" + "%3Cscript%3E%27%22%26")
    assert answer.status_code == 200
    assert "<script>" not in answer.text
    assert answer.text.count("&lt;script&gt;") >= 4


def test_a_refusal_repeats_no_text_of_the_request(shim):
    for path in ("/%3Cscript%3E", "/mkiso.php?accession_number=%3Cscript%3Ealert(1)%3C/script%3E*"):
        assert "script>" not in shim.page(path).text


@pytest.mark.parametrize(
    ("name", "kind"), [("page.css", "text/css"), ("page.js", "text/javascript"), ("icon.svg", "image/svg+xml")]
)
def test_what_pages_are_drawn_with_is_open_to_all(shim, name, kind):
    for address in (f"/orders/assets/{name}", f"/mkiso.php?asset={name}", f"/nowhere?asset={name}"):
        answer = shim.get(address, key=None)
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith(kind)


@pytest.mark.parametrize("name", ["page.py", "..%2Fpage.py", "%2e%2e/page.py", "../../app.py"])
def test_nothing_else_of_the_program_is_served(shim, name):
    assert shim.get(f"/orders/assets/{name}", key=None).status_code in {401, 404}
    assert shim.get(f"/mkiso.php?asset={name}", key=None).status_code == 401
    assert shim.get("/mkiso.php?asset=page.css&accession_number=A1", key=None).status_code == 401


def test_every_refusal_has_its_words_and_its_advice():
    for kind in kinds():
        assert ENGLISH.say(f"wrong.{kind.key}")
        assert ENGLISH.say(f"wrong.{kind.key}_advice")


def test_the_page_says_its_language(shim):
    answer = shim.page(LINK, **{"Accept-Language": "es"})
    assert '<html lang="es">' in answer.text
    assert "Preguntando al PACS" in answer.text
    assert answer.headers["Content-Language"] == "es"


@pytest.mark.parametrize("language", translations.languages().values(), ids=lambda one: one.code)
@pytest.mark.parametrize("verb", list(Verb))
def test_every_way_an_order_can_stand_has_a_page(language, verb):
    stands = [{"state": OrderState.OPEN, "stage": stage} for stage in OrderStage]
    stands += [{"state": state, "error_kind": error} for error in OrderError for state in OrderState]
    stands += [{"state": OrderState.DONE, "result": MadeFile("/x/x.iso", "x.iso", 5)}, {"state": OrderState.DONE}]
    for stand in stands:
        for counts in ({}, {"found": FOUND, "expected": 812, "received": 640, "late": 1, "ended_at": 1.0}):
            view = dataclasses.replace(NEW, verb=str(verb), accessions=("A1",), **stand, **counts)
            page = page_of(view, language, patient_name="X", address="y")
            assert page.heading
            assert (page.refresh is None) == (view.state != OrderState.OPEN)
