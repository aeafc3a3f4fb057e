"""A download that is not complete, in a real browser: it shows what it lacks, and waits for a click."""

import time

import pytest
from support.machine.chromium import chromium
from support.machine.dicom_programs import wait_until
from support.sites.shim_site import FOUND, running_shim

from pipeline.ledger.order_counts import NotThere
from pipeline.model import LeftOutCode, OrderState

pytestmark = pytest.mark.programs

LEFT_OUT = (
    NotThere("private SOP class: no reader knows what it is", 14, LeftOutCode.KIND),
    NotThere("its compressed pixels cannot be decoded (ValueError)", 1, LeftOutCode.COMPRESSED),
)
SHORT = {"state": OrderState.DONE, "found": FOUND, "expected": 812, "received": 812, "left_out": LEFT_OUT}


@pytest.fixture
def shim(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch, shim={"api_key": ""}) as running:
        yield running


@pytest.mark.parametrize(
    ("language", "sentence", "button"),
    [
        ("en", "14 images that were received: of a kind that no disc can hold", "Download what there is"),
        ("es", "14 imágenes que sí se recibieron: de un tipo que ningún disco", "Descargar lo que hay"),
    ],
)
def test_it_is_fetched_by_whoever_has_seen_what_it_lacks(shim, tmp_path, language, sentence, button):
    with chromium(tmp_path / "chromium") as browser:
        tab = browser.tab(language=language)
        tab.open(f"{shim.url}/mkiso.php?accession_number=A1")
        shim.orders.change(1, result=shim.file(b"an image"), **SHORT)
        tab.wait_for(sentence)
        tab.wait_for(button)
        tab.screenshot(tmp_path / "screens" / f"short-{language}.png")
        above = tab.run(
            "document.querySelector('.short').getBoundingClientRect().bottom <= "
            "document.querySelector('a.button').getBoundingClientRect().top"
        )
        assert above
        time.sleep(2)  # a download that starts by itself starts after one
        assert list(browser.downloads.iterdir()) == []
        tab.run("document.querySelector('a.button').click()")
        wait_until(lambda: list(browser.downloads.glob("A1.iso")), what="the file")
        assert (browser.downloads / "A1.iso").read_bytes() == b"an image"
        assert browser.complaints() == []
