"""The pages in a real browser: with scripts and without, what it downloads, what it reads aloud, its colours."""

import itertools

import pytest
from support.machine.chromium import chromium
from support.machine.dicom_programs import wait_until
from support.sites.shim_site import FOUND

from pipeline.model import OrderError, OrderStage, OrderState
from pipeline.web import page_endpoints, patient_names

pytestmark = pytest.mark.programs

DONE = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "sent": 812}


@pytest.fixture(scope="module")
def module_browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("chromium")) as running:
        yield running


@pytest.fixture
def browser(module_browser):
    yield module_browser
    module_browser.close_tabs()


@pytest.fixture(scope="module")
def about_shim():
    return {"shim": {"api_key": ""}}


@pytest.fixture(scope="module", autouse=True)
def _every_patient_is_jane():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(patient_names.PatientNames, "name_of", lambda *_: "DOE^JANE")
        yield


def downloaded(browser, name):
    files = browser.downloads
    return wait_until(lambda: (files / name).exists() and (files / name).read_bytes(), what=f"{name} to be saved")


@pytest.mark.parametrize("scripts", [True, False])
def test_a_page_follows_its_order_to_the_download_which_starts_by_itself(shim, browser, scripts):
    name = f"FOLLOWED{scripts:d}"
    tab = browser.tab(scripts=scripts)
    tab.open(f"{shim.url}/mkiso.php?accession_number={name}")
    tab.wait_for("Asking the archive for this study")
    if scripts:
        tab.run("window.mark = 'the same page'")
    for values, sentence in [
        ({"stage": OrderStage.QUEUED, "found": FOUND, "expected": 812, "place_in_queue": 1}, "1 study goes first"),
        ({"stage": OrderStage.MOVING, "received": 640, "place_in_queue": None}, "Received: 640 of 812 images"),
        ({"stage": OrderStage.DELIVERING, "received": 812}, "Making the disc and reading it back"),
        ({"state": OrderState.DONE, "result": shim.file(b"an image")}, "Ready: the download starts by itself"),
    ]:
        shim.orders.change(1, **values)
        tab.wait_for(sentence)
    assert downloaded(browser, f"{name}.iso") == b"an image"
    if scripts:
        assert tab.run("window.mark") == "the same page"
    assert len(shim.orders.asked) == 1


def test_reload_back_and_a_second_tab_print_nothing_again(shim, browser):
    shim.orders.plan = DONE
    tab = browser.tab()
    tab.open(f"{shim.url}/")
    tab.open(f"{shim.url}/send_rimage_multiple.php?accession_number=A1")
    tab.wait_for("Sent to the CD publisher")
    tab.say("Page.reload")
    tab.wait_for("Sent to the CD publisher")
    tab.run("history.back()")
    tab.run("history.forward()")
    tab.wait_for("Sent to the CD publisher")
    second = browser.tab()
    second.open(f"{shim.url}/send_rimage_multiple.php?accession_number=A1")
    second.wait_for("not sent again")
    assert len(shim.orders.views) == 1


def test_the_button_prints_once_more_and_a_reload_after_it_does_not(shim, browser):
    shim.orders.plan = DONE
    tab = browser.tab()
    tab.open(f"{shim.url}/send_rimage_multiple.php?accession_number=A1")
    tab.wait_for("Print once more")
    tab.run("document.querySelector('form button').click()")
    wait_until(lambda: len(shim.orders.views) == 2, what="the second order")
    tab.wait_for("Sent to the CD publisher")
    tab.say("Page.reload")
    tab.wait_for("Sent to the CD publisher")
    assert len(shim.orders.views) == 2


def test_a_page_outlives_a_gateway_that_does_not_answer_for_a_while(shim, browser, monkeypatch):
    tab = browser.tab()
    tab.open(f"{shim.url}/mkiso.php?accession_number=A1")
    tab.wait_for("Asking the archive")
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.web.order_service.OrderService.named", lambda *_, **__: 1 / 0)
        wait_until(lambda: any("500" in one for one in browser.complaints()), what="an answer that is none")
    shim.orders.change(1, stage=OrderStage.MOVING, expected=812, received=3)
    tab.wait_for("Received: 3 of 812 images")


def test_who_takes_a_while_to_decide_can_still_end_the_request(shim, browser, monkeypatch, tmp_path):
    def end(_ledger, number, _reason):
        shim.orders.change(number, error_kind=OrderError.CANCELLED)

    monkeypatch.setattr(page_endpoints, "cancel", end)
    tab = browser.tab()
    tab.open(f"{shim.url}/mkiso.php?accession_number=A1")
    tab.wait_for("Asking the archive")
    tab.run("document.querySelector('details.cancel summary').click()")
    tab.run("window.button = document.querySelector('details.cancel button')")
    for received in (3, 4, 5):  # the page is renewed at least this often
        shim.orders.change(1, stage=OrderStage.MOVING, expected=812, received=received)
        tab.wait_for(f"Received: {received} of 812 images")
    assert tab.run("document.querySelector('details.cancel').open")
    assert tab.run("window.button.isConnected")  # who has reached it by keyboard does not lose it
    tab.screenshot(tmp_path / "screens" / "cancel.png")
    x, y = tab.run(
        "(box => [box.x + box.width / 2, box.y + box.height / 2])(window.button.getBoundingClientRect())"
    )
    for kind in ("mousePressed", "mouseReleased"):
        tab.say("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)
    tab.wait_for("Somebody has cancelled this request")
    assert shim.orders.views[1].error_kind == OrderError.CANCELLED


def test_a_page_speaks_the_language_of_the_browser(shim, browser):
    tab = browser.tab(language="es-AR,es;q=0.9")
    shim.orders.plan = {"error_kind": OrderError.PACS_UNREACHABLE}
    tab.open(f"{shim.url}/mkiso.php?accession_number=A1")
    tab.wait_for("El PACS no responde")
    assert tab.run("document.documentElement.lang") == "es"


PAGES = [
    (
        "/mkiso.php?accession_number=A1",
        {"stage": OrderStage.MOVING, "found": FOUND, "expected": 812, "received": 640},
    ),
    ("/send_rimage_multiple.php?accession_number=A1", DONE),
    (
        "/send_rimage_multiple.php?accession_number=A1",
        {"error_kind": OrderError.MOVE_INCOMPLETE, "found": FOUND, "expected": 812, "received": 640},
    ),
    ("/mkiso.php?accession_number=*&format=html", {}),
    ("/", {}),
]
COLOURS = """
[...document.querySelectorAll("main *")].filter(one => [...one.childNodes].some(node =>
  node.nodeType === 3 && node.data.trim())).map(one => {
    let behind = one;
    while (behind.parentElement && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)")
      behind = behind.parentElement;
    const colours = [getComputedStyle(one).color, getComputedStyle(behind).backgroundColor];
    return [one.textContent.trim().slice(0, 40), ...colours];
})
"""


def luminance(colour):
    """Return the relative luminance of `rgb(r, g, b)` (WCAG 2.2)."""
    parts = [int(part) / 255 for part in colour.removeprefix("rgb(").rstrip(")").split(",")]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(("path", "plan"), PAGES)
def test_every_word_can_be_told_from_what_is_behind_it(shim, browser, path, plan, scheme):
    shim.orders.plan = plan
    tab = browser.tab()
    tab.say("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    tab.open(shim.url + path)
    words = tab.run(COLOURS)
    assert len(words) > 2
    for text, colour, behind in words:
        light, dark = sorted((luminance(colour), luminance(behind)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, colour, behind)


@pytest.mark.parametrize(("path", "plan"), PAGES)
def test_a_page_can_be_read_aloud_and_used_without_a_mouse(shim, browser, path, plan):
    shim.orders.plan = plan
    tab = browser.tab()
    tab.open(shim.url + path)
    nodes = [node for node in tab.say("Accessibility.getFullAXTree")["nodes"] if not node.get("ignored")]
    by_role = {}
    for node in nodes:
        by_role.setdefault(node["role"]["value"], []).append(node.get("name", {}).get("value", ""))
    assert len(by_role["heading"]) == 1
    assert by_role["main"]
    for role in ("button", "link", "textbox", "progressbar", "ProgressIndicator"):
        assert all(by_role.get(role, ["named"])), role
    assert tab.run("document.documentElement.lang") == "en"
    assert tab.run("document.title")
    levels = tab.run("[...document.querySelectorAll('[tabindex]')].length")
    assert levels == 0  # the order of the page is the order of the keyboard


@pytest.mark.parametrize("width", [320, 500, 900, 1600])
def test_a_page_fits_every_screen(shim, browser, width):
    shim.orders.plan = {"error_kind": OrderError.MOVE_INCOMPLETE, "found": FOUND, "expected": 812, "received": 640}
    tab = browser.tab()
    tab.say("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    numbers = ",".join(f"20251119{n:08d}" for n in range(20))
    tab.open(f"{shim.url}/mkiso_multiple.php?accession_numbers={numbers}")
    assert tab.run("document.documentElement.scrollWidth") <= width


LABELS = """
[...document.querySelectorAll(".steps li")].map(step => {
  const range = document.createRange();
  range.selectNodeContents([...step.childNodes].find(node => node.nodeType === 3 && node.data.trim()));
  return [range.getBoundingClientRect().left, range.getBoundingClientRect().right];
})
"""


@pytest.mark.parametrize("width", [340, 360, 900])
@pytest.mark.parametrize("language", ["en", "es", "id"])
def test_the_words_of_the_steps_stand_apart(shim, browser, language, width):
    shim.orders.plan = {"error_kind": OrderError.NO_DATA}  # the longest word is the one in bold letters
    tab = browser.tab(language=language)
    tab.say("Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False)
    tab.open(f"{shim.url}/mkiso.php?accession_number=A1")
    places = tab.run(LABELS)
    assert len(places) == 5
    for (_, right), (left, _) in itertools.pairwise(places):
        assert right + 3 <= left, places


def test_no_page_asks_for_what_its_policy_forbids(shim, browser):
    complaints = []
    for (path, plan), language in itertools.product(PAGES, ("en", "es")):
        shim.orders.forget()
        shim.orders.plan = plan
        browser.tab(language=language).open(shim.url + path)
        complaints += [one for one in browser.complaints() if "status of 400" not in one]
        browser.close_tabs()
    assert complaints == []
