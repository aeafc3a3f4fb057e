"""The pages for people: what they say of an order, and that they order nothing twice."""

import re
from html import unescape
from urllib.parse import urljoin

import pytest
from starlette.datastructures import Headers
from support.sites.page_elements import Elements
from support.sites.shim_site import BROWSER, FOUND, below_orders, forms_of

from pipeline.model import OrderError, OrderStage, OrderState
from pipeline.web import patient_names
from pipeline.web.negotiation import prefers_html

LINK = "/mkiso.php?accession_number=A1"
PRINT = "/send_rimage_multiple.php?accession_number=A1"
DONE = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "sent": 812}


@pytest.fixture(scope="module", autouse=True)
def _every_patient_is_jane():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patient_names.PatientNames, "name_of", lambda *_: "DOE^<JANE>")
        yield


def test_a_browser_gets_a_page_at_once_whose_address_orders_nothing(shim):
    answer = shim.page(LINK)
    assert answer.status_code == 200
    assert re.fullmatch(rf"{shim.url}/mkiso\.php\?order=1-[0-9a-f]{{16}}", answer.url)
    assert "A1" not in answer.url
    for _ in range(3):
        assert shim.page(answer.url.removeprefix(shim.url)).status_code == 200
    assert len(shim.orders.asked) == 1


def test_a_second_tab_shows_the_same_order(shim):
    assert shim.page(LINK).url == shim.page(LINK).url
    assert len(shim.orders.views) == 1


JAVA = "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2"
CHROME = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36"
INDY = "Mozilla/3.0 (compatible; Indy Library)"


@pytest.mark.parametrize(
    ("accept", "more", "is_page"),
    [
        # browsers, and who takes nothing but a page
        (BROWSER["Accept"], {}, True),
        ("text/html, application/xhtml+xml, */*", {"User-Agent": "Mozilla/5.0 (Trident/7.0; rv:11.0)"}, True),
        ("text/html, text/*;q=0.9, */*;q=0.8", {"User-Agent": "Mozilla/5.0 (compatible; Konqueror/4.5)"}, True),
        ("application/xml,application/xhtml+xml,text/html;q=0.9,text/plain;q=0.8,*/*;q=0.5", {}, True),
        ("text/html,*/*;q=0.8", {"Sec-Fetch-Mode": "navigate"}, True),
        ("text/html,*/*;q=0.8", {"User-Agent": CHROME}, True),
        ("text/html", {}, True),
        ("text/html;charset=utf-8", {}, True),
        # programs
        (JAVA, {"User-Agent": "Java/1.8.0_292"}, False),
        (JAVA, {"User-Agent": "Mozilla/4.0 (Windows 7 6.1) Java/1.8.0_292"}, False),
        (JAVA.replace("*; q=.2, ", ""), {}, False),
        ("text/html, */*", {}, False),
        ("text/html, */*", {"User-Agent": INDY}, False),
        (BROWSER["Accept"], {"User-Agent": INDY}, False),
        ("text/html,*/*;q=0.8", {}, False),
        ("*/*", {"User-Agent": CHROME}, False),
        ("*/*", {"User-Agent": CHROME, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin"}, False),
        ("application/octet-stream, text/html, */*", {}, False),
        ("application/octet-stream, text/html;q=0.1", {"User-Agent": CHROME}, False),
        ("text/html;q=0.1, application/octet-stream", {"User-Agent": CHROME}, False),
        ("text/html;q=0.5, application/*", {"User-Agent": CHROME}, False),
        ("application/json", {}, False),
        ("application/json, text/plain, */*", {}, False),
        ("application/json,text/html;q=0.5", {}, False),
        ("text/html;q=0", {}, False),
        ("text/html;q=0.0, */*", {}, False),
        ("text/html; q=0.000 , application/xhtml+xml, */*", {}, False),
        ("text/html;q=nan, */*", {}, False),
        ("", {}, False),
    ],
)
def test_a_page_is_for_those_who_ask_for_one(shim, accept, more, is_page):
    shim.orders.plan = DONE
    answer = shim.get(PRINT, headers={"Accept": accept, **more})
    assert (answer.status_code == 303) == is_page


def test_a_list_of_what_is_accepted_may_be_in_several_lines():
    lines = [(b"accept", b"text/html"), (b"accept", b"application/octet-stream")]
    assert not prefers_html(Headers(raw=lines))
    assert prefers_html(Headers(raw=lines[:1]))


@pytest.mark.parametrize(("form", "status"), [("html", 303), ("json", 200)])
def test_format_says_it_whatever_the_headers_say(shim, form, status):
    shim.orders.plan = DONE
    accept = BROWSER["Accept"] if form == "json" else "application/json"
    assert shim.get(f"{PRINT}&format={form}", headers={"Accept": accept}).status_code == status


STAGES = [
    ({"stage": OrderStage.PLACED}, ["Asking the archive"]),
    ({"stage": OrderStage.FINDING}, ["Asking the archive"]),
    (
        {"stage": OrderStage.QUEUED, "found": FOUND, "expected": 812, "place_in_queue": 2},
        ["waiting for other studies", "3 series, 812 images, CT, SR", "2 studies go first"],
    ),
    ({"stage": OrderStage.QUEUED, "place_in_queue": 0}, ["Yours is next"]),
    (
        {"stage": OrderStage.MOVING, "found": FOUND, "expected": 812, "received": 640},
        ["Receiving images", "Received: 640 of 812 images", 'value="640" max="812"'],
    ),
    ({"stage": OrderStage.MOVING, "received": 1}, ["Received: 1 image so far"]),
    ({"stage": OrderStage.RECEIVING, "expected": 812, "received": 812}, ["Checking what has been received"]),
    ({"stage": OrderStage.PREPARING, "expected": 812, "received": 812}, ["Preparing the images"]),
    ({"stage": OrderStage.DELIVERING, "expected": 812, "received": 812}, ["Making the disc"]),
]


@pytest.mark.parametrize(("stands", "said"), STAGES)
def test_an_open_order_says_how_it_stands_and_renews_itself_without_a_script(shim, stands, said):
    shim.orders.plan = stands
    text = shim.page(LINK).text
    for sentence in said:
        assert sentence in text
    assert re.search(r'<noscript><meta http-equiv="refresh" content="\d+"></noscript>', text)
    assert len(Elements(text).of("progress")) == 1


def test_when_the_disc_is_ready_the_download_starts_by_itself(shim):
    shim.orders.plan = {**DONE, "result": shim.file(b"image")}
    answer = shim.page(LINK)
    refresh = re.search(r'<meta http-equiv="refresh" content="1; url=(\?order=[^"]+)">', answer.text)
    assert refresh
    assert "Ready" in answer.text
    assert shim.get(f"/mkiso.php{unescape(refresh[1])}", headers=BROWSER).content == b"image"


def test_what_was_sent_says_where_and_for_whom_and_offers_to_send_again(shim):
    shim.orders.plan = DONE
    text = shim.page(PRINT).text
    for sentence in ("Sent to the CD publisher", "812 images sent", "127.0.0.1:10105", "Print once more"):
        assert sentence in text
    assert "DOE^&lt;JANE&gt;" in text


def test_a_second_click_says_that_it_was_sent_before_and_a_reload_of_the_first_does_not(shim):
    shim.orders.plan = DONE
    first, second = shim.page(PRINT), shim.page(PRINT)
    assert "Already sent to the CD publisher; not sent again" in second.text
    assert "Already" not in shim.page(first.url.removeprefix(shim.url)).text
    assert len(shim.orders.views) == 1


def test_only_a_post_prints_again_and_leads_to_a_page_that_does_not(shim):
    shim.orders.plan = DONE
    page = shim.page(PRINT)
    (form,) = Elements(page.text).of("form")
    assert form["method"] == "post"
    below = below_orders(page.url)
    assert shim.get(f"{below}/again").status_code == 405
    again = shim.press(page, headers=BROWSER)
    assert again.status_code == 303
    assert len(shim.orders.views) == 2
    assert shim.page(urljoin(PRINT, again.headers["Location"])).url != page.url
    assert len(shim.orders.views) == 2
    assert shim.orders.asked[-1]["again"] is True


@pytest.mark.parametrize("token", [None, "", "0" * 64, "another order's", "twice"])
def test_a_form_without_the_token_of_its_order_orders_nothing(shim, token):
    shim.orders.plan = DONE
    page, other = shim.page(PRINT), shim.page("/send_rimage_multiple.php?accession_number=B2")
    (action, fields), ((_, others),) = forms_of(page)[0], forms_of(other)
    assert re.fullmatch(r"[0-9a-f]{64}", fields["token"])
    shown = {"another order's": others["token"], "twice": [fields["token"]] * 2}.get(token, token)
    below = below_orders(page.url)
    for where in (urljoin(PRINT, action), f"{below}/again"):
        answer = shim.request("POST", where, data={**fields, "token": shown})
        assert (answer.status_code, answer.json()["error"]) == (403, "not from a page")
    assert len(shim.orders.asked) == 2
    assert shim.request("POST", f"{below}/again", data=fields).headers["Location"].startswith("../3-")


def test_a_page_is_shown_under_the_paths_of_its_own_kind_of_link_alone(shim):
    query = shim.page(LINK).url.partition("?")[2]
    for path, status in (("/mkiso.php", 200), ("/api/iso/download", 200), ("/mkiso2.php", 404), ("/", 200)):
        answer = shim.page(f"{path}?{query}")
        assert answer.status_code == status
        assert ("A1" in answer.text) == (status == 200 and path != "/")
    assert shim.request("POST", f"/mkiso2.php?{query}").status_code == 404
    assert len(shim.orders.asked) == 1


def test_a_link_with_a_parameter_order_of_the_his_is_a_link_still(shim):
    shim.page(f"{LINK}&order=4711")
    assert shim.orders.asked[0]["accessions"] == ("A1",)


def test_an_order_named_twice_is_none(shim):
    query = shim.page(LINK).url.partition("?")[2]
    assert shim.page(f"/mkiso.php?{query}&{query}").status_code == 404


def test_a_failure_is_said_in_plain_words_with_what_to_do(shim):
    shim.orders.plan = {"error_kind": OrderError.PACS_UNREACHABLE, "detail": "PACS at 10.0.0.1:104 <refused>"}
    text = shim.page(LINK).text
    assert "The archive does not answer" in text
    assert "Try again" in text
    assert "PACS at 10.0.0.1:104 &lt;refused&gt;" in text
    assert "http-equiv" not in text


def test_of_an_incomplete_study_the_page_asks_and_does_not_decide(shim):
    stands = {"found": FOUND, "expected": 812, "received": 640, "failed": 3}
    shim.orders.plan = {"error_kind": OrderError.MOVE_INCOMPLETE, **stands}
    page = shim.page(PRINT)
    for sentence in ("Not all images have come", "Received: 640 of 812 images", "3 images it could not send"):
        assert sentence in page.text
    shim.press(page, 0)
    assert shim.orders.asked[-1]["incomplete_allowed"] is False
    shim.orders.change(2, error_kind=OrderError.MOVE_INCOMPLETE)
    assert 'name="incomplete" value="yes"' in page.text
    shim.press(page, 1)
    assert shim.orders.asked[-1]["incomplete_allowed"] is True
    assert shim.orders.asked[-1]["again"] is False


def test_of_a_missing_number_the_page_asks_and_keeps_what_was_allowed_before(shim):
    shim.orders.plan = {"error_kind": OrderError.NO_DATA, "missing": ("B2",), "incomplete_allowed": True}
    page = shim.page("/mkiso_multiple.php?accession_number=A1,B2&incomplete=yes")
    assert "Not in the archive: B2" in page.text
    shim.press(page, 1)
    assert (shim.orders.asked[-1]["missing_allowed"], shim.orders.asked[-1]["incomplete_allowed"]) == (True, True)


def test_without_any_study_there_is_nothing_to_go_on_with(shim):
    shim.orders.plan = {"error_kind": OrderError.NO_DATA, "missing": ("A1",)}
    forms = Elements(shim.page(LINK).text).of("form")
    assert [form.get("class") for form in forms] == [None, "correct"]  # try again, and correct the number


def test_images_that_came_too_late_are_offered_and_not_sent_by_themselves(shim):
    shim.orders.plan = {**DONE, "late": 14}
    text = shim.page(PRINT).text
    assert "14 more images have arrived since" in text
    assert "Print again with them" in text


def test_a_count_the_pacs_itself_overrules_is_on_the_page_and_in_the_answer(shim):
    shim.orders.plan = {**DONE, "counted": 9000}
    assert "The archive counts 9000 images, has sent 812 and says that these are all" in shim.page(PRINT).text
    assert shim.get(PRINT).json()["counted"] == 9000


def test_a_number_longer_than_dicom_allows_is_noted(shim):
    assert "more than the 16 characters" not in shim.page(PRINT).text
    text = shim.page("/api/iso/print?accession_number=RAD-2026-00004711-2").text
    assert "more than the 16 characters that DICOM allows" in text


def test_what_was_refused_before_an_order_was_placed_is_a_page_too(shim):
    answer = shim.page("/mkiso.php?accession_number=*")
    assert answer.status_code == 400
    assert "This is not an accession number" in answer.text
    assert "invalid accession_number (400)" in answer.text
