"""The page of all sites: it is made of what is known, whoever is asked meanwhile, and escapes what a site says."""

import contextlib
import time
from pathlib import Path

import pytest
import requests
from support.machine.dicom_programs import free_port
from support.sites.fleet_sites import answer_of, answering, fleet_site, report
from support.sites.shim_site import BROWSER, running_shim, served

from pipeline.ledger import open_ledger, told_alarms
from pipeline.ledger.told_alarms import ToldAlarm
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool
from pipeline.web.app import application
from pipeline.web.operator.endpoints import fleet_page
from pipeline.web.shim_site import ShimSite, opened

KEY = "an-operator-key"
HOSTILE = '"><script>alert(1)</script>'
SILENCE = {"receiver": HOSTILE, "calling_ae_title": HOSTILE, "since": 1.0}


def answers(**values) -> bytes:
    return answer_of(report(**values).model_dump_json().encode())


@contextlib.contextmanager
def operator(folder: Path, tables):
    """Serve the page of a site with this fleet, and log in."""
    table = {"folder": folder, "site": {"spool": str(folder / "spool")}, "shim": {"operator_key": KEY}}
    site = opened(Settings.model_validate({**table, "fleet": [table.model_dump() for table in tables]}))
    Spool(folder / "spool").prepare()
    ledger, _ = open_ledger(folder / "spool")
    ledger.close()
    port = free_port()
    with served(application(site), port), requests.Session() as session:
        session.headers.update(BROWSER)
        url = f"http://127.0.0.1:{port}/operator"
        session.post(f"{url}/login", data={"name": "Ana", "key": KEY}, timeout=20)
        yield site, lambda **headers: session.get(f"{url}/fleet", headers=headers, timeout=20)


@pytest.mark.parametrize(
    ("language", "words"),
    [
        ("en", ("no answer in time", "not asked yet", "quarantine")),
        ("es", ("no responde a tiempo", "aún no consultado", "cuarentena")),
        ("id", ("tidak menjawab tepat waktu", "belum ditanya", "karantina")),
    ],
)
def test_it_shows_what_is_known_at_once_although_a_site_hangs(tmp_path, language, words):
    with answering() as hanging, answering(answers(quarantine=3)) as busy:
        tables = [fleet_site(tmp_path, "hangs", hanging), fleet_site(tmp_path, "busy", busy)]
        with operator(tmp_path, tables) as (site, page):
            headers = {"Accept-Language": language}
            began = time.monotonic()
            assert words[1] in page(**headers).text
            assert time.monotonic() - began < 10  # nobody is asked for the page
            site.fleet.ask_once()
            text = page(**headers).text
    assert words[0] in text
    assert words[2] in text
    assert text.index(">hangs<") < text.index(">busy<")
    assert f'href="http://127.0.0.1:{busy}/operator"' in text


def test_what_a_site_says_is_text_and_no_page(tmp_path):
    hostile = answers(
        name=HOSTILE,
        version=HOSTILE,
        worker=HOSTILE,
        destinations=[{"name": HOSTILE, "kind": HOSTILE, "state": HOSTILE, "waiting": 1, "oldest_seconds": 9.0}],
        receivers=[{"name": HOSTILE, "ae_title": HOSTILE, "state": HOSTILE}],
        silent=[SILENCE],
        space={"free": 1, "size": 1, "state": HOSTILE},
        alarms=[{"key": HOSTILE, "since": 1.0}],
    )
    with answering(hostile) as port, operator(tmp_path, [fleet_site(tmp_path, "odd", port)]) as (site, page):
        site.fleet.ask_once()
        answer = page()
    assert answer.status_code == 200
    assert "<script" not in answer.text
    assert answer.text.count("&lt;script&gt;") >= 8


def test_a_site_that_was_lost_before_this_process_began_is_lost_since_then(tmp_path):
    with operator(tmp_path, [fleet_site(tmp_path, "dead", free_port())]) as (site, page):
        site.fleet.ask_once()
        ledger = site.order_service.ledger()
        with ledger.transaction() as connection:
            told_alarms.write(connection, [ToldAlarm("site:dead", 1_000_000.0, 1_000_100.0, None)])
        ((_, since),) = fleet_page(site.fleet, ledger, time.time())["sites"]
        assert since == 1_000_000.0
        assert "1970-01-12" in page().text
        (tmp_path / "spool/ledger.sqlite3").unlink()
        assert page().status_code == 200  # other sites are shown although our own ledger is not there


def test_without_a_fleet_there_is_no_such_page_and_no_link_to_it(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch, shim={"operator_key": KEY}) as shim, requests.Session() as session:
        session.post(f"{shim.url}/operator/login", data={"name": "Ana", "key": KEY}, timeout=20)
        assert session.get(f"{shim.url}/operator/fleet", timeout=20).status_code == 404
        assert "operator/fleet" not in session.get(f"{shim.url}/operator", headers=BROWSER, timeout=20).text


def test_the_operator_alone_sees_it(tmp_path):
    with operator(tmp_path, [fleet_site(tmp_path, "dead", free_port())]) as (site, page):
        assert isinstance(site, ShimSite)
        url = page().url
        assert requests.get(url, headers=BROWSER, timeout=20).status_code == 401
