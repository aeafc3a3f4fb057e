"""Who asks by the links of the HIS: waiting, sharing one order, and other sites' pages."""

import concurrent.futures
import dataclasses
import time
from urllib.parse import urljoin

import pytest
import requests
from support.machine.dicom_programs import wait_until
from support.sites.shim_site import BROWSER, FOUND, KEY, PEER, below_orders, running_shim

from pipeline.model import OrderError, OrderStage, OrderState
from pipeline.web import patient_names

PRINTED = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "sent": 812}
PRINT = "/api/iso/print?accession_number=A1"


@pytest.fixture(scope="module")
def module_shim(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, running_shim(tmp_path_factory.mktemp("shim"), patch) as running:
        patch.setattr(patient_names.PatientNames, "name_of", lambda *_: "DOE^JANE")
        yield running


@pytest.fixture
def shim(module_shim):
    module_shim.orders.forget()
    return module_shim


def test_an_answer_waits_for_the_end_of_its_order(shim):
    with concurrent.futures.ThreadPoolExecutor() as threads:
        answer = threads.submit(shim.get, PRINT)
        wait_until(lambda: shim.orders.views, what="the order")
        time.sleep(0.4)
        assert not answer.done()
        shim.orders.change(1, **PRINTED)
        assert answer.result(10).json()["files_sent"] == 812


@pytest.mark.parametrize("becomes", ["gone", "another's"])
def test_who_waits_for_an_order_that_was_lost_with_the_ledger_is_told_to_ask_again(shim, becomes):
    with concurrent.futures.ThreadPoolExecutor() as threads:
        answer = threads.submit(shim.get, PRINT)
        wait_until(lambda: shim.orders.views, what="the order")
        lost = shim.orders.views.pop(1)
        if becomes == "another's":
            shim.orders.views[1] = dataclasses.replace(lost, **PRINTED, accessions=("B2",))
        answer = answer.result(10)
    assert (answer.status_code, answer.json()["error"]) == (503, "receiver not ready")
    assert int(answer.headers["Retry-After"]) > 0


def test_two_who_ask_at_once_are_served_by_one_order(shim):
    with concurrent.futures.ThreadPoolExecutor() as threads:
        answers = [threads.submit(shim.get, PRINT) for _ in range(4)]
        wait_until(lambda: len(shim.orders.asked) == 4, what="four askers")
        shim.orders.change(1, **PRINTED)
        assert [answer.result(10).status_code for answer in answers] == [200] * 4
    assert len(shim.orders.views) == 1


def test_the_same_link_again_says_that_it_was_sent_already(shim):
    shim.orders.plan = PRINTED
    assert [shim.get(PRINT).json()["already_sent"] for _ in range(3)] == [False, True, True]
    assert len(shim.orders.views) == 1


def test_again_sends_once_more(shim):
    shim.orders.plan = PRINTED
    shim.get(PRINT)
    assert shim.get(PRINT + "&again=1").json()["already_sent"] is False
    assert len(shim.orders.views) == 2


def test_the_order_of_the_numbers_makes_no_other_order(shim):
    shim.orders.plan = PRINTED
    shim.get("/api/iso/print?accession_number=A1,B2")
    assert shim.get("/send_rimage_multiple.php?accession_numbers=B2,A1").json()["already_sent"] is True


def test_a_failed_order_is_tried_again_by_the_next_click(shim):
    shim.orders.plan = {"error_kind": OrderError.PUBLISHER_UNREACHABLE}
    assert shim.get(PRINT).status_code == 502
    shim.orders.plan = PRINTED
    assert shim.get(PRINT).json()["already_sent"] is False


@pytest.mark.parametrize("path", [PRINT, "/mkiso.php?accession_number=A1", "/mkiso2.php?accession_number=A1"])
def test_a_head_orders_nothing(shim, path):
    answer = shim.request("HEAD", path)
    assert (answer.status_code, answer.content) == (200, b"")
    assert not shim.orders.asked


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Purpose": "prefetch;prerender"},
        {"Purpose": "prefetch"},
        {"X-Moz": "prefetch"},
        {"X-Purpose": "preview"},
    ],
)
@pytest.mark.parametrize("browser", [{}, BROWSER])
def test_a_prefetch_orders_nothing(shim, headers, browser):
    answer = shim.get(PRINT, headers={**headers, **browser})
    assert answer.status_code == 503
    assert not shim.orders.asked


def test_a_post_to_a_link_is_not_how_it_is_used(shim):
    answer = shim.request("POST", PRINT)
    assert (answer.status_code, answer.json()["error"]) == (405, "method not allowed")
    assert not shim.orders.asked


def test_an_asker_who_leaves_ends_no_order(shim):
    with pytest.raises(requests.ReadTimeout):
        requests.get(shim.url + PRINT, headers={"X-API-Key": KEY}, timeout=0.5)
    assert shim.orders.views[1].state == OrderState.OPEN
    shim.orders.change(1, **PRINTED)
    assert shim.get(PRINT).json()["already_sent"] is True


@pytest.mark.parametrize(
    ("given", "kept"),
    [("his-42", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("a\tb", False), ("é", False)],
)
def test_the_number_of_a_request_is_taken_over_when_it_is_plain(shim, given, kept):
    answer = shim.get("/api/health", headers={"X-Request-ID": given.encode("latin-1")})
    assert (answer.headers["X-Request-ID"] == given) == kept
    assert len(answer.headers["X-Request-ID"]) in range(1, 65)


def test_an_origin_that_is_allowed_may_read_the_answer_and_no_other(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch, shim={"allowed_origins": ["https://his.example.org"]}) as shim:
        asked = {"Origin": "https://his.example.org", "Access-Control-Request-Method": "GET"}
        ahead = shim.request(
            "OPTIONS", PRINT, key=None, headers={**asked, "Access-Control-Request-Headers": "x-api-key"}
        )
        assert ahead.status_code == 200
        assert ahead.headers["Access-Control-Allow-Origin"] == "https://his.example.org"
        shim.orders.plan = {**PRINTED, "verb": "forward"}
        answer = shim.get("/mkiso2.php?accession_number=A1", headers={"Origin": "https://his.example.org"})
        assert answer.headers["Access-Control-Allow-Origin"] == "https://his.example.org"
        assert "Content-Disposition" in answer.headers["Access-Control-Expose-Headers"]
        other = shim.get("/mkiso2.php?accession_number=A1", headers={"Origin": "https://evil.example.org"})
        assert "Access-Control-Allow-Origin" not in other.headers


def test_without_allowed_origins_no_page_of_another_site_may_read_an_answer(shim):
    answer = shim.get("/api/health", headers={"Origin": "https://his.example.org"})
    assert "Access-Control-Allow-Origin" not in answer.headers


def test_an_order_that_is_open_says_its_stage_to_programs(shim):
    shim.page("/mkiso.php?accession_number=A1")
    shim.orders.change(1, stage=OrderStage.MOVING, expected=812, received=640)
    body = shim.get(shim.page_of("/mkiso.php?accession_number=A1")).json()
    assert (body["state"], body["stage"], body["received"]) == ("open", "moving", 640)


def test_what_was_made_is_told_to_programs_without_its_path(shim):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file()}
    page = shim.page_of("/mkiso.php?accession_number=A1").removesuffix("&before=1")
    answer = shim.get(page)
    assert str(shim.folder) not in answer.text
    assert urljoin(page, answer.json()["page"]) == page
    assert urljoin(page, answer.json()["result"]["address"]) == f"{page}&file=1"
    below = below_orders(page)
    body = shim.get(below).json()
    assert (body["page"], body["result"]["address"]) == (below, f"{below}/file")
    assert shim.get(f"{page}&file=1").content == shim.get(f"{below}/file").content == b"0123456789" * 1000


def test_a_destination_without_an_address_is_told_by_its_name(tmp_path, monkeypatch):
    destination = [{"name": "shelf", "kind": "null"}, {**PEER, "name": "publisher", "port": 1}]
    tables = {"destination": destination, "shim": {"download": None, "forward": ["shelf"]}}
    with running_shim(tmp_path, monkeypatch, **tables) as shim:
        shim.orders.plan = PRINTED
        assert shim.get("/mkiso2.php?accession_number=A1").json()["destination"] == "shelf"
