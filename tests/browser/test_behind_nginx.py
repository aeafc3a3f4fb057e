"""The pages in a real browser behind the real nginx of docs/nginx.conf: at the path of the link, in both forms."""

import pytest
from support.machine.chromium import chromium
from support.machine.dicom_programs import wait_until
from support.peers.nginx import nginx
from support.sites.shim_site import FOUND, KEY, running_shim

from pipeline.model import OrderStage, OrderState
from pipeline.web import patient_names

pytestmark = pytest.mark.programs

HOSTS = ["his.example.org", "127.0.0.1"]
DONE = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "sent": 812}
FORMS = ["", "/pacs"]


@pytest.fixture(scope="module")
def front(tmp_path_factory):
    """A browser, nginx, and a shim behind it."""
    folder = tmp_path_factory.mktemp("front")
    with pytest.MonkeyPatch.context() as patch, running_shim(folder, patch, shim={"hosts": HOSTS}) as shim:
        patch.setattr(patient_names.PatientNames, "name_of", lambda *_: "DOE^JANE")
        with (
            nginx(folder / "nginx", shim_port=int(shim.url.rpartition(":")[2]), key=KEY) as url,
            chromium(folder / "chromium") as browser,
        ):
            yield shim, url, browser


@pytest.fixture
def shim(front):
    front[0].orders.forget()
    return front[0]


@pytest.fixture
def url(front):
    return front[1]


@pytest.fixture
def browser(front):
    yield front[2]
    front[2].close_tabs()


def is_drawn(tab):
    """Say whether the styles of the page are there: its card is no plain paragraph then."""
    return tab.run("document.styleSheets.length === 1 && document.styleSheets[0].cssRules.length > 10")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scripts", [True, False])
def test_an_order_is_followed_to_its_download_under_the_path_of_its_link(shim, url, browser, form, scripts):
    name = f"A{scripts:d}{len(form)}"
    tab = browser.tab(scripts=scripts)
    tab.open(f"{url}{form}/mkiso.php?accession_number={name}")
    tab.wait_for("Asking the archive for this study")
    shim.orders.change(1, stage=OrderStage.MOVING, found=FOUND, expected=812, received=640)
    tab.wait_for("Received: 640 of 812 images")
    if scripts:
        assert tab.run("location.href").startswith(f"{url}{form}/mkiso.php?order=1-")
        assert is_drawn(tab)
    shim.orders.change(1, **DONE, result=shim.file(b"an image"))
    file = browser.downloads / f"{name}.iso"
    wait_until(lambda: file.exists() and file.read_bytes() == b"an image", what="the download")
    assert browser.complaints() == []
    assert len(shim.orders.asked) == 1


@pytest.mark.parametrize("form", FORMS)
def test_the_button_works_under_the_path_of_its_link(shim, url, browser, form):
    shim.orders.plan = DONE
    tab = browser.tab()
    tab.open(f"{url}{form}/send_rimage_multiple.php?accession_number=A1")
    tab.wait_for("Print once more")
    tab.run("document.querySelector('form button').click()")
    wait_until(lambda: len(shim.orders.views) == 2, what="the second order")
    tab.wait_for("Sent to the CD publisher")
    assert tab.run("location.href").startswith(f"{url}{form}/send_rimage_multiple.php?order=2-")
    assert is_drawn(tab)
    assert browser.complaints() == []


def test_what_is_refused_is_drawn_too_and_tried_again_at_the_same_path(shim, url, browser):
    tab = browser.tab()
    tab.open(f"{url}/mkiso.php?accession_number=*")
    tab.wait_for("This is not an accession number we can ask for")
    assert is_drawn(tab)


def test_the_form_for_people_works_below_a_prefix(shim, url, browser):
    shim.orders.plan = DONE
    tab = browser.tab()
    tab.open(f"{url}/pacs/")
    tab.wait_for("Print on CD")
    assert is_drawn(tab)
    tab.run("document.querySelector('input[name=accession_numbers]').value = 'A1'")
    tab.run("document.querySelectorAll('form button')[1].click()")
    tab.wait_for("Sent to the CD publisher")
    assert tab.run("location.href").startswith(f"{url}/pacs/api/iso/print?order=1-")
    assert browser.complaints() == []


def test_a_stranger_whose_name_points_here_reads_nothing(shim, url, browser):
    shim.orders.plan = {"state": OrderState.DONE, "result": shim.file(b"an image")}
    tab = browser.tab()
    port = url.rpartition(":")[2]
    for path in ("/mkiso.php?accession_number=A1&format=json", "/pacs/", "/"):
        answer = tab.say("Page.navigate", url=f"http://evil.example:{port}{path}")
        assert answer["errorText"] == "net::ERR_EMPTY_RESPONSE"
    assert not shim.orders.asked
