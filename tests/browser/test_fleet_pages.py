"""The page of all sites in a real browser: narrow and wide, light and dark, in each language, by keyboard."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.machine.chromium import Browser, Tab, chromium
from support.machine.dicom_programs import free_port
from support.sites.fleet_sites import answer_of, answering, fleet_site, report
from support.sites.shim_site import served

from pipeline.ledger import open_ledger
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool
from pipeline.web.app import application
from pipeline.web.shim_site import opened

pytestmark = pytest.mark.programs

KEY = "an-operator-key"
SUMMARIES = {"en": "of them need a person", "es": "necesitan a una persona", "id": "memerlukan seseorang"}
TO_ARCHIVE = {"name": "archive", "kind": "stow", "state": "up", "waiting": 0, "oldest_seconds": None}
ILL = {
    "name": "Hospital General de la Ciudad Muy Lejana",
    "destinations": [
        {**TO_ARCHIVE, "state": "down", "waiting": 412, "oldest_seconds": 11_000.0},
        {"name": "publisher", "kind": "cstore", "state": "paused", "waiting": 3, "oldest_seconds": 700.0},
    ],
    "receivers": [{"name": "modalities", "ae_title": "STORESTOW", "state": "down"}],
    "silent": [{"receiver": "modalities", "calling_ae_title": "CT_EMERGENCY", "since": 1.0}],
    "quarantine": 17,
    "refused": 2,
    "space": {"free": 3_000_000_000, "size": 1_000_000_000_000, "state": "low"},
    "alarms": [{"key": "down:archive", "since": 1.0}, {"key": "receiver:modalities", "since": 1.0}],
}


@dataclass
class ShownFleet:
    """The page, with somebody logged in."""

    url: str
    browser: Browser
    tab: Tab


def answers(**values) -> bytes:
    return answer_of(report(**values).model_dump_json().encode())


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> Iterator[ShownFleet]:
    folder = tmp_path_factory.mktemp("fleet")
    Spool(folder / "spool").prepare()
    ledger, _ = open_ledger(folder / "spool")
    ledger.close()
    with contextlib.ExitStack() as stack:
        waiting = answers(destinations=[{**TO_ARCHIVE, "waiting": 8, "oldest_seconds": 65.0}], name="West Clinic")
        ports = {
            "north": stack.enter_context(answering(answers())),
            "east": stack.enter_context(answering(answers(**ILL))),
            "west": stack.enter_context(answering(waiting)),
            "south": free_port(),
            "island": stack.enter_context(answering(answer_of(b"<html>log in</html>"))),
        }
        tables = [fleet_site(folder, name, port).model_dump() for name, port in ports.items()]
        table = {"folder": folder, "site": {"spool": str(folder / "spool")}, "shim": {"operator_key": KEY}}
        site = opened(Settings.model_validate({**table, "fleet": tables}))
        site.fleet.ask_once()
        port = free_port()
        stack.enter_context(served(application(site), port))
        browser = stack.enter_context(chromium(folder / "browser"))
        tab = browser.tab()
        tab.open(f"http://127.0.0.1:{port}/operator")
        tab.run("document.querySelector('[name=name]').value = 'Ana Lyst'")
        tab.run(f"document.querySelector('[name=key]').value = '{KEY}'")
        tab.run("document.querySelector('[type=submit]').click()")
        tab.wait_for("All sites")
        browser.complaints()
        browser.events.clear()  # among them that the first page was answered 401
        yield ShownFleet(f"http://127.0.0.1:{port}/operator/fleet", browser, tab)


@pytest.mark.parametrize("language", SUMMARIES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_it_fits_every_screen(shown: ShownFleet, tmp_path: Path, width: int, scheme: str, language: str) -> None:
    screen = {"width": width, "deviceScaleFactor": 1, "mobile": False}
    shown.tab.say("Emulation.setUserAgentOverride", userAgent="test", acceptLanguage=language)
    shown.tab.say("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    shown.tab.say("Emulation.setDeviceMetricsOverride", **screen, height=900)
    shown.tab.open(shown.url)
    shown.tab.wait_for(SUMMARIES[language])
    assert shown.tab.run("document.documentElement.scrollWidth") <= width
    assert shown.tab.run("(e => e.scrollWidth - e.clientWidth)(document.querySelector('.wide'))") == 0
    tall = shown.tab.run("document.documentElement.scrollHeight")
    shown.tab.say("Emulation.setDeviceMetricsOverride", **screen, height=int(tall))
    shown.tab.screenshot(tmp_path / f"fleet-{width}-{scheme}-{language}.png")
    assert shown.browser.complaints() == []


def test_every_site_is_reached_by_keyboard_in_the_order_of_need(shown: ShownFleet) -> None:
    shown.tab.say("Emulation.setUserAgentOverride", userAgent="test", acceptLanguage="en")
    shown.tab.open(shown.url)
    shown.tab.wait_for(SUMMARIES["en"])
    reached: list[str] = []
    while "north" not in reached and len(reached) < 30:
        for kind in ("rawKeyDown", "keyUp"):
            shown.tab.say("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(shown.tab.run("document.activeElement.textContent.trim()"))
    assert reached[-4:] == ["island", "south", "east", "north"]
