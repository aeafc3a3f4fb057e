"""A way on from every page: back, a new request, the refused number once more, and the end of a request."""

import html
import logging
import re
from urllib.parse import urlencode, urljoin

import pytest
from support.sites.shim_site import BROWSER, FOUND, forms_of, running_shim, settings_of

from pipeline.errors import Usage
from pipeline.model import OrderError, OrderStage, OrderState
from pipeline.orders.finish import DeliveryRunning
from pipeline.web import page_endpoints
from pipeline.web.page_assets import ASSETS

HIS = "https://his.example.org/worklist"
LINK = "/mkiso.php?accession_number=A1"
SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><path d="M0 0h9"/></svg>'


@pytest.fixture(scope="module")
def about_shim(tmp_path_factory):
    folder = tmp_path_factory.mktemp("named")
    (folder / "logo.svg").write_text(SVG)
    site = {"spool": str(folder / "spool"), "name": "St. <Mary>", "logo": str(folder / "logo.svg")}
    return {"site": site, "shim": {"back_to": HIS}}


@pytest.mark.parametrize("path", ["/", LINK, "/mkiso.php?accession_number=*", "/api/docs", "/nowhere"])
def test_the_hospital_is_named_on_every_page_with_its_logo(shim, path):
    page = shim.page(path)
    assert "St. &lt;Mary&gt;" in page.text
    assert '<img src="?asset=logo" alt="">' in page.text
    logo = shim.get(f"{path.partition('?')[0]}?asset=logo", key=None)
    assert logo.status_code == 200
    assert logo.text == SVG
    assert logo.headers["Content-Type"] == "image/svg+xml"
    assert "default-src 'none'" in logo.headers["Content-Security-Policy"]
    assert "sandbox" in logo.headers["Content-Security-Policy"]
    assert logo.headers["X-Content-Type-Options"] == "nosniff"


def test_a_logo_that_can_start_something_is_not_served(shim):
    file = shim.settings.site.logo
    try:
        file.write_text("<svg><script>alert(1)</script></svg>")
        assert shim.get("/?asset=logo", key=None).status_code == 404
    finally:
        file.write_text(SVG)


def test_a_site_without_name_and_logo_has_neither(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        assert "hospital" not in shim.page("/").text
        assert shim.get("/?asset=logo", key=None).status_code == 404
        assert "logo" not in ASSETS


def test_a_page_leads_to_a_new_request_under_its_own_path(shim):
    page = shim.page(LINK)
    assert 'href="?new=1">New request</a>' in page.text
    form = shim.page("/mkiso.php?new=1")
    assert form.status_code == 200
    assert 'formaction=""' in form.text
    assert 'name="accession_numbers"' in form.text
    assert len(shim.orders.asked) == 1


NOWHERE = (
    "/nowhere",
    "/pages/of/nobody",
    "/orders/none",
    "/mkiso.php?order=none",
    "/mkiso.php?accession_number=*",
)


@pytest.mark.parametrize("path", NOWHERE)
def test_a_page_that_says_no_leads_to_a_form_for_another_request(shim, path):
    page = shim.page(path)
    assert page.status_code in {400, 404}
    way = re.search(r'<a href="([^"]+)">New request</a>', page.text)
    assert way
    assert 'name="accession_numbers"' in shim.page(urljoin(path, way[1])).text


def test_who_may_not_ask_is_offered_no_form(shim):
    page = shim.get(LINK, key=None, headers=BROWSER)
    assert page.status_code == 401
    assert "text/html" in page.headers["Content-Type"]
    assert "New request" not in page.text


@pytest.mark.parametrize("path", ["/", LINK, "/mkiso.php?new=1", "/mkiso.php?accession_number=*"])
def test_every_page_leads_back_to_the_his_also_without_a_script(shim, path):
    assert f'<a class="back" href="{HIS}">Back</a>' in shim.page(path).text


@pytest.mark.parametrize(
    "address", ["javascript:alert(1)", "//his.example.org", "his", "https://", "https://h/\n"]
)
def test_the_address_of_the_way_back_is_one_of_a_page(tmp_path, address):
    with pytest.raises(ValueError, match="write the address of a page"):
        settings_of(tmp_path, shim={"back_to": address})


def test_under_its_older_address_it_leads_to_the_start_page(shim):
    name = shim.page(LINK).url.partition("order=")[2]
    assert '<a href="../">New request</a>' in shim.page(f"/orders/{name}").text


def test_for_a_program_a_link_without_a_number_is_refused_as_before(shim):
    assert shim.get("/mkiso.php?new=1").status_code == 400


def test_a_refused_number_keeps_its_field_and_what_else_was_asked_for(shim):
    page = shim.page("/mkiso.php?accession_number=A*%221&container=zip")
    assert page.status_code == 400
    assert 'value="A*&#34;1"' in page.text
    assert '<input type="hidden" name="container" value="zip">' in page.text
    assert "Correct the number" in page.text


def test_a_number_the_archive_does_not_know_can_be_corrected(shim):
    shim.orders.plan = {"error_kind": OrderError.NO_DATA}
    page = shim.page("/mkiso.php?accession_number=A1,A2")
    assert 'action=""' in page.text
    assert 'value="A1,A2"' in page.text
    name = page.url.partition("order=")[2]
    assert 'action="../api/iso/download"' in shim.page(f"/orders/{name}").text
    shim.orders.plan = {"error_kind": OrderError.PACS_UNREACHABLE}
    assert "Correct the number" not in shim.page("/mkiso.php?accession_number=A3").text


@pytest.mark.parametrize(
    ("path", "asked"),
    [
        ("/send_rimage_multiple.php", {"modality": "MR,CT"}),
        ("/mkiso.php", {"modality": "MR", "container": "zip"}),
        ("/api/iso/forward", {"to": "other", "modality": "MR"}),
    ],
)
def test_a_corrected_number_is_asked_for_in_the_same_way(shim, path, asked):
    shim.orders.plan = {"error_kind": OrderError.NO_DATA}
    page = shim.page(f"{path}?{urlencode({'accession_number': 'A1', **asked})}")
    [form] = re.findall(r'<form class="correct".*?</form>', page.text, re.DOTALL)
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form))
    assert fields == {"format": "html", **asked}
    shim.page(f"{path}?{urlencode({**fields, 'accession_numbers': 'A2'})}")
    [first, second] = [{**wish, "accessions": ()} for wish in shim.orders.asked]
    assert second == first


def the_cancel_form(page) -> dict[str, str]:
    [body] = re.findall(r'<details class="cancel">(.*?)</details>', page.text, re.DOTALL)
    [token] = re.findall(r'name="token" value="([^"]+)"', body)
    return {"token": html.unescape(token), "cancel": "1"}


def test_an_open_request_can_be_ended_on_its_page(shim, monkeypatch):
    done = []
    monkeypatch.setattr(page_endpoints, "cancel", lambda _ledger, number, reason: done.append((number, reason)))
    page = shim.page(LINK)
    address = page.url.removeprefix(shim.url)
    answer = shim.request("POST", address, data=the_cancel_form(page), headers=BROWSER)
    assert answer.status_code == 303
    assert done == [(1, "on the page of the order")]
    assert len(shim.orders.asked) == 1
    forged = shim.request("POST", address, data={"token": "x", "cancel": "1"}, headers=BROWSER)
    assert forged.status_code == 403
    assert len(done) == 1
    shim.orders.change(1, error_kind=OrderError.CANCELLED)
    assert "Cancel this request" not in shim.page(address).text


def test_one_that_has_ended_meanwhile_shows_how(shim, monkeypatch):
    def ended(*_):
        raise Usage("order 1 has ended: done")

    monkeypatch.setattr(page_endpoints, "cancel", ended)
    page = shim.page(LINK)
    answer = shim.request("POST", page.url.removeprefix(shim.url), data=the_cancel_form(page), headers=BROWSER)
    assert answer.status_code == 303


def test_one_that_is_being_sent_goes_on_and_the_answer_says_so(shim, monkeypatch, caplog):
    logging.getLogger("storestow").propagate = True

    def running(*_):
        raise DeliveryRunning("order 1 is being sent to disc just now; try again later")

    monkeypatch.setattr(page_endpoints, "cancel", running)
    page = shim.page(LINK)
    answer = shim.request("POST", page.url.removeprefix(shim.url), data=the_cancel_form(page), headers=BROWSER)
    assert answer.status_code == 409
    assert "This request cannot be cancelled just now" in answer.text
    assert "order 1 is being sent to disc just now" in answer.text
    [back] = re.findall(r'<a class="button main" href="([^"]+)">Back</a>', answer.text)
    assert urljoin(page.url, html.unescape(back)) == page.url
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize(
    ("received", "said"),
    [(2, None), (203, "About 3 minutes left"), (700, "Less than a minute left"), (812, None)],
)
def test_what_is_left_is_estimated_by_the_pace_of_the_retrieval(shim, received, said):
    about = {"stage": OrderStage.MOVING, "found": FOUND, "expected": 812, "received": received}
    shim.orders.plan = {**about, "moving_since": 1000.0, "last_progress_at": 1060.0}
    text = shim.page(LINK).text
    assert (said in text) if said else (" left<" not in text)


def test_the_end_has_its_day(shim):
    shim.orders.plan = {
        "state": OrderState.DONE,
        "found": FOUND,
        "expected": 1,
        "received": 1,
        "result": shim.file(),
    }
    assert re.search(r"Finished on 2025-11-21 \d\d:\d\d", shim.page(LINK).text)


def test_the_description_of_the_interface_is_a_page_without_scripts(shim):
    answer = shim.page("/api/docs")
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text
    for path in ("/api/iso/download", "/mkiso.php", "/api/health"):
        assert f'<section id="{path}">' in answer.text
    assert "accession_number" in answer.text
    assert '<article class="card api" lang="en">' in answer.text  # the description has no translation
    assert shim.get("/api/docs", key=None).status_code == 200
    assert forms_of(answer) == []
