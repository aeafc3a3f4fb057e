"""The operator's page in a real browser: narrow and wide, light and dark, by keyboard, on a site that is ill."""

import math
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from sqlalchemy import update
from support.machine.chromium import Browser, Tab, chromium
from support.machine.dicom_programs import free_port, wait_until
from support.sites.line_site import arrive, instance, rounds, working
from support.sites.shim_site import served

from pipeline.errors import Transient
from pipeline.ledger import destination_states, nodes, reports, samples, tallies
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.samples import SampleKind
from pipeline.ledger.tables import node
from pipeline.ledger.tallies import TallyKind
from pipeline.site.settings import Settings
from pipeline.web.app import application
from pipeline.web.operator import endpoints, views
from pipeline.web.shim_site import opened

pytestmark = pytest.mark.programs

KEY = "an-operator-key"
PAGES = ("", "/destination?name=archive", "/orders", "/quarantine", "/search?q=CT1", "/study?uid={study}")


@dataclass
class Shown:
    """The page, somebody who is logged in, and a study."""

    url: str
    study: str
    settings: Settings
    browser: Browser
    tab: Tab


def settings_of(folder: Path) -> Settings:
    (folder / "out").mkdir()
    return Settings.model_validate(
        {
            "folder": folder,
            "site": {"spool": str(folder / "spool"), "workers": 1, "show_names": True},
            "receiver": [
                {"name": "modalities", "ae_title": "STORESTOW", "port": free_port(), "quiet_seconds": 1,
                 "to": ["archive", "second-archive"]},
                {"name": "ultrasound", "ae_title": "STORESTOW_US", "port": free_port(), "to": ["archive"]},
            ],
            "destination": [
                {"name": "archive", "kind": "folder", "folder": str(folder / "out"), "encode": "j2k"},
                {"name": "second-archive", "kind": "stow", "url": "http://127.0.0.1:1/rs/studies"},
            ],
            "shim": {"operator_key": KEY},
        }
    )  # fmt: skip


def history(connection, now: float) -> None:
    """A week of a hospital's life."""
    for hours in range(7 * 24):
        at = now - hours * 3600
        busy = max(0.0, math.sin((time.gmtime(at).tm_hour - 6) / 12 * math.pi))
        for receiver, title, share in (
            ("modalities", "CT1", 20),
            ("modalities", "MR2", 9),
            ("ultrasound", "US7", 12),
        ):
            if count := int(share * busy):
                tallies.add(
                    connection, at, TallyKind.RECEIVED, receiver, title, times=count, instances=count * 300
                )
                tallies.add(
                    connection,
                    at,
                    TallyKind.VERIFIED,
                    "archive",
                    "300",
                    times=count,
                    seconds=count * 90 * (1 + busy),
                )
    for minutes in range(7 * 24 * 60, 0, -20):
        values = {
            (SampleKind.FREE, ""): 900e9 - (10080 - minutes) * 3e7,
            (SampleKind.WAITING, "archive"): minutes % 7,
            (SampleKind.WAITING, "second-archive"): max(0, 300 - minutes) / 4,
            (SampleKind.OLDEST, "second-archive"): max(0, 300 - minutes) * 60,
        }
        samples.take(connection, now - minutes * 60, values)


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("site")
    study = generate_uid()
    with working(settings_of(folder)) as (site, worker):
        with site.ledger.transaction() as connection:
            history(connection, time.time())
        about = {"AccessionNumber": "ACC-2026-0001", "PatientName": "DOE^JANE", "PatientID": "4711"}
        arrive(site.spool, *(instance(folder, n, StudyInstanceUID=study, **about) for n in "ab"), peer="10.0.0.9")
        for _ in range(3):
            arrive(site.spool, instance(folder, StudyInstanceUID=generate_uid()), peer="10.0.0.9")
        (folder / "rubbish").write_bytes(b"no DICOM at all")
        arrive(site.spool, folder / "rubbish")

        def is_there() -> bool:
            with site.ledger.reading() as look:
                delivered = reports.counts(look)["deliveries"]["delivered"]
                return delivered == 4 and destination_states.down_since(look, "second-archive") is not None

        rounds(worker, until=is_there)
        with site.ledger.transaction() as connection:
            for name in ("gateway-2", "gateway-3"):
                nodes.report(connection, NodeReport(name, name, "1.0", ("modalities", "ultrasound"), 3, ""))
            nodes.drain(connection, "gateway-3", draining=True)
            connection.execute(update(node).where(node.c.name == "gateway-2").values(seen=node.c.seen - 95))
            connection.execute(update(node).where(node.c.name == "gateway-3").values(seen=node.c.seen + 3600))
        port = free_port()
        with served(application(opened(site.settings)), port), chromium(folder / "browser") as browser:
            url = f"http://127.0.0.1:{port}/operator"
            tab = browser.tab()
            tab.open(url)
            tab.run("document.querySelector('[name=name]').value = 'Ana Lyst'")
            tab.run(f"document.querySelector('[name=key]').value = '{KEY}'")
            tab.run("document.querySelector('form').submit()")
            tab.wait_for("Log out")
            browser.events.clear()  # among them that the first page was answered 401
            yield Shown(url, study, site.settings, browser, tab)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1200, 360])
def test_every_page_fits_and_breaks_no_rule_of_ours(shown: Shown, tmp_path: Path, width: int, scheme: str) -> None:
    screen = {"width": width, "deviceScaleFactor": 1, "mobile": False}
    shown.tab.say("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])
    for page in PAGES:
        shown.tab.say("Emulation.setDeviceMetricsOverride", **screen, height=900)
        shown.tab.open(shown.url + page.format(study=shown.study))
        shown.tab.wait_for("Log out")
        assert shown.tab.run("document.documentElement.scrollWidth") <= width, page
        cut = "[...document.querySelectorAll('.newest')].filter(e => right(e.firstChild) > right(e) + 1).length"
        assert shown.tab.run(f"right = e => e.getBoundingClientRect().right; {cut}") == 0, page
        unlabelled = (
            "[...document.querySelectorAll('input:not([type=hidden]),select')].filter(e => !e.labels.length)"
        )
        assert shown.tab.run(f"{unlabelled}.length") == 0, page
        tall = shown.tab.run("document.documentElement.scrollHeight")
        name = page.strip("/").partition("?")[0] or "site"
        shown.tab.say("Emulation.setDeviceMetricsOverride", **screen, height=int(tall))
        shown.tab.screenshot(tmp_path / f"{name}-{width}-{scheme}.png")
    assert shown.browser.complaints() == []


def test_where_there_are_several_nodes_each_is_shown_with_its_state(shown: Shown) -> None:
    shown.tab.open(shown.url)
    shown.tab.wait_for("Log out")
    rows = "[...document.querySelectorAll('tr')].map(e => e.innerText.replace(/\\s+/g, ' ').trim())"
    text = "\n".join(shown.tab.run(rows))
    assert re.search(r"gateway-2 lost .*1\.0 modalities, ultrasound 3 0", text), text
    assert re.search(r"gateway-3 draining .*1\.0 modalities, ultrasound 3 0", text), text


def test_it_is_used_by_keyboard_alone(shown: Shown) -> None:
    shown.tab.open(shown.url + "/destination?name=archive")
    shown.tab.wait_for("Pause")
    reached = []
    for _ in range(20):
        for kind in ("rawKeyDown", "keyUp"):
            shown.tab.say("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        reached.append(shown.tab.run("document.activeElement.name || document.activeElement.textContent.trim()"))
        if reached[-1] == "Pause":
            break
    assert {"q", "reason", "by"} <= set(reached)
    assert reached[-1] == "Pause"


def test_the_first_page_renews_itself_and_leaves_what_is_being_typed(shown: Shown, monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "_REFRESH_SECONDS", 1)
    shown.tab.open(shown.url)
    shown.tab.wait_for("Log out")
    shown.tab.run("document.querySelector('#q').focus(); document.querySelector('#q').value = 'ACC-20'")
    shown.tab.run("document.querySelector('#page').firstElementChild.id = 'before'")
    wait_until(
        lambda: shown.tab.run("document.querySelector('#before') === null"), seconds=60, what="new contents"
    )
    assert shown.tab.run("document.querySelector('#q').value") == "ACC-20"
    assert shown.tab.run("document.activeElement.id") == "q"
    assert shown.browser.complaints() == []


SIGN = "document.querySelector('#not-renewed').textContent"
MADE = "document.querySelector('#made').textContent"


def renewed(tab: Tab) -> None:
    """Wait until the contents have been replaced."""
    tab.run("document.querySelector('#page').firstElementChild.id = 'before'")
    wait_until(lambda: tab.run("document.querySelector('#before') === null"), seconds=60, what="new contents")


def is_grey(tab: Tab) -> bool:
    return bool(tab.run("getComputedStyle(document.querySelector('main')).filter === 'grayscale(1)'"))


def says_since_when(tab: Tab) -> Callable[[], bool]:
    """Return what says whether the sign stands in sight, with the time at which the contents were made."""
    place = "document.querySelector('#not-renewed').getBoundingClientRect()"
    return lambda: (
        tab.run(SIGN) == f"Not renewed since {tab.run(MADE)}: what stands here may be old."
        and tab.run(f"{place}.height > 20 && {place}.bottom <= innerHeight")
    )


def test_the_first_page_renews_itself_while_a_link_in_it_has_the_focus_and_the_link_keeps_it(
    shown: Shown, monkeypatch
) -> None:
    monkeypatch.setattr(endpoints, "_REFRESH_SECONDS", 1)
    shown.tab.open(shown.url)
    shown.tab.wait_for("Log out")
    for _ in range(30):
        for kind in ("rawKeyDown", "keyUp"):
            shown.tab.say("Input.dispatchKeyEvent", type=kind, key="Tab", code="Tab", windowsVirtualKeyCode=9)
        if shown.tab.run("document.activeElement.textContent") == "second-archive":
            break
    renewed(shown.tab)
    assert shown.tab.run("document.activeElement.textContent") == "second-archive"
    assert shown.tab.run("document.querySelector('#page').contains(document.activeElement)")
    assert shown.tab.run(SIGN) == ""


def test_a_first_page_that_is_not_renewed_says_since_when_and_is_grey_until_it_is_again(
    shown: Shown, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(endpoints, "_REFRESH_SECONDS", 1)
    port, tab = free_port(), shown.tab
    app = application(opened(shown.settings))
    with served(app, port):
        tab.open(f"http://127.0.0.1:{port}/operator")
        tab.wait_for("Log out")
        assert tab.run("document.querySelector('#not-renewed').getAttribute('aria-live')") == "polite"
        renewed(tab)
        assert (tab.run(SIGN), is_grey(tab)) == ("", False)
    wait_until(says_since_when(tab), seconds=60, what="the sign, of a shim that is gone")
    assert is_grey(tab)
    assert tab.run("[...document.querySelectorAll('.tiles li')].length") == 8
    for width in (1200, 360):
        tab.say("Emulation.setDeviceMetricsOverride", width=width, height=700, deviceScaleFactor=1, mobile=False)
        assert tab.run("document.documentElement.scrollWidth") <= width
        tab.screenshot(tmp_path / f"not-renewed-{width}.png")
    with served(app, port):
        wait_until(lambda: tab.run(SIGN) == "" and not is_grey(tab), seconds=60, what="the sign to go")
        with monkeypatch.context() as broken:
            broken.setattr(views, "overview", cannot_be_read)
            wait_until(says_since_when(tab), seconds=60, what="the sign, of an answer that is an error")
        wait_until(lambda: tab.run(SIGN) == "", seconds=60, what="the sign to go again")
        tab.run("document.querySelector('#page').insertAdjacentHTML('afterbegin', '<input id=typed>')")
        tab.run("document.querySelector('#typed').focus()")
        wait_until(says_since_when(tab), seconds=60, what="the sign, of rounds that were left out")
        assert tab.run("document.activeElement.id") == "typed"
        tab.run("document.activeElement.blur()")
        wait_until(lambda: tab.run(SIGN) == "", seconds=60, what="the sign to go in the end")
    shown.browser.complaints()
    shown.browser.events.clear()  # among them each connection that was refused


def test_the_first_failure_is_said_at_once(shown: Shown, monkeypatch) -> None:
    monkeypatch.setattr(endpoints, "_REFRESH_SECONDS", 60)
    port = free_port()
    with served(application(opened(shown.settings)), port):
        shown.tab.open(f"http://127.0.0.1:{port}/operator")
        shown.tab.wait_for("Log out")
    shown.tab.run("document.dispatchEvent(new Event('visibilitychange'))")  # somebody comes back to the page
    wait_until(says_since_when(shown.tab), seconds=60, what="the sign")
    shown.browser.complaints()
    shown.browser.events.clear()


def cannot_be_read(*_: object) -> None:
    raise Transient("the disk of the ledger does not answer")
