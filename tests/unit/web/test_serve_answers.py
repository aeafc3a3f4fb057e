"""What `storestow serve` tells of itself: its health, its description, its log lines and its documents."""

import contextlib
import json
import logging
import re
import threading
import tomllib
from pathlib import Path

import pytest
from support.machine.dicom_programs import wait_until
from support.sites.shim_site import BROWSER, below_orders, running_shim

from pipeline.ledger import FILE_NAME, Ledger, nodes
from pipeline.ledger.claims import Claimant
from pipeline.ledger.nodes import NodeReport
from pipeline.model import OrderState
from pipeline.patients import from_table
from pipeline.site.settings import Settings
from pipeline.web import health
from pipeline.web.api_key import VARIABLE
from pipeline.web.app import routes
from pipeline.web.http_errors import kinds
from pipeline.web.openapi import description
from pipeline.web.order_addresses import LINKS


@pytest.fixture(autouse=True)
def _no_key_of_the_machine(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)


@pytest.mark.parametrize(
    ("parts", "status"),
    [
        ([("ledger", True, True, ""), ("destination disc", True, False, "")], "ok"),
        ([("ledger", True, True, ""), ("destination disc", False, False, "")], "degraded"),
        ([("ledger", False, True, ""), ("destination disc", True, False, "")], "down"),
    ],
)
def test_the_site_is_down_when_no_order_can_be_served(parts, status):
    assert health.status_of(parts) == status


def test_health_is_open_to_all_and_its_details_are_not(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        stranger = shim.get("/api/health", key=None)
        assert (stranger.status_code, stranger.json()) == (503, {"status": "down"})
        parts = shim.get("/api/health").json()["parts"]
    assert parts["ledger"]["ok"]
    assert {"worker", "receiver", "pacs", "destination disc", "destination publisher"} < parts.keys()


def test_peers_are_asked_once_however_many_ask(tmp_path, monkeypatch):
    looks = []
    monkeypatch.setattr(health, "look_at", lambda _: looks.append(1) or [("pacs", True, True, "answers")])
    with running_shim(tmp_path, monkeypatch) as shim:
        threads = [threading.Thread(target=shim.get, args=("/api/health",)) for _ in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert shim.get("/api/health").status_code == 200
    assert len(looks) == 1


def test_a_node_that_drains_says_so_within_seconds_and_takes_no_association(tmp_path, monkeypatch):
    monkeypatch.setattr(health, "look_at", lambda _: [("pacs", True, True, "answers")])
    monkeypatch.setattr(health, "is_up", lambda _spool, receiver: receiver.name == "orders")
    with (
        running_shim(tmp_path, monkeypatch) as shim,
        contextlib.closing(Ledger(tmp_path / "spool" / FILE_NAME)) as ledger,
    ):
        assert shim.get("/api/health").status_code == 200
        assert shim.get("/api/health?receiver=orders", key=None).json() == {"status": "ok"}
        assert shim.get("/api/health?receiver=unknown", key=None).status_code == 503
        name = Claimant().node
        with ledger.transaction() as change:
            nodes.report(change, NodeReport(name, "worker", "1.0", (), 0, ""))
            nodes.drain(change, name, draining=True)
        wait_until(lambda: shim.get("/api/health").status_code == 503, seconds=5, what="503")
        answer = shim.get("/api/health")
        assert (answer.status_code, answer.json()["status"]) == (503, "down")
        assert answer.json()["parts"]["node"]["detail"] == f"{name} is draining and takes nothing new"
        assert shim.get("/api/health?receiver=orders", key=None).status_code == 503
        with ledger.transaction() as change:
            nodes.drain(change, name, draining=False)
        wait_until(lambda: shim.get("/api/health").ok, seconds=5, what="200")


def test_peers_are_asked_again_when_the_answer_is_old(tmp_path, monkeypatch):
    looks, now = [], [1000.0]
    monkeypatch.setattr(health.time, "monotonic", lambda: now[0])
    one = health.Health(None, look=lambda _: looks.append(1) or [])
    for moment in (1000.0, 1029.0, 1031.0):
        now[0] = moment
        one.report()
    assert len(looks) == 2


def test_every_address_for_programs_is_described_and_every_error_word_with_it(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        told = shim.get("/api/openapi.json", key=None).json()
    assert told == json.loads(json.dumps(description()))
    assert set(told["paths"]) == {*LINKS, "/patient/by-accession", "/api/health"}
    assert set(told["paths"]) < {route.path for route in routes()}
    answers = told["paths"]["/api/iso/print"]["get"]["responses"]
    for kind in kinds():
        assert kind.words in told["components"]["schemas"]["Error"]["properties"]["error"]["enum"]
        if kind.status != 405:
            assert kind.words in answers[str(kind.status)]["description"]
    identities = [one["get"]["operationId"] for one in told["paths"].values()]
    assert len(set(identities)) == len(identities)


@pytest.fixture
def lines(caplog):
    logging.getLogger("storestow").propagate = True
    with caplog.at_level(logging.INFO, logger="storestow"):
        yield caplog


def test_an_answer_is_one_line_with_the_number_of_its_request_and_nothing_it_said(tmp_path, monkeypatch, lines):
    with running_shim(tmp_path, monkeypatch) as shim:
        shim.orders.plan = {"state": OrderState.DONE}
        headers = {"X-Request-ID": "his-42", "User-Agent": "DOE^JANE"}
        shim.get("/mkiso2.php?accession_number=A1&name=DOE^JANE", headers=headers)
        shim.get("/DOE%5EJANE%0Aorder-ended", headers=headers)
    answered = [line for line in lines.messages if line.startswith("answered")]
    assert answered[0].startswith(
        "answered request=his-42 method=GET route=/mkiso2.php status=200 order=1 seconds="
    )
    assert answered[1].startswith("answered request=his-42 method=GET route=unknown status=404 seconds=")
    assert "DOE" not in lines.text
    assert "A1" not in lines.text


def test_a_page_that_renews_itself_and_a_monitor_leave_no_lines(tmp_path, monkeypatch, lines):
    with running_shim(tmp_path, monkeypatch) as shim:
        page = shim.page("/mkiso.php?accession_number=A1").url.removeprefix(shim.url)
        lines.clear()
        monkeypatch.setattr(health, "look_at", lambda _: [])
        for path in (
            page,
            below_orders(page),
            "/mkiso.php?asset=page.css",
            "/orders/assets/page.css",
        ):
            shim.get(path, headers=BROWSER)
        assert not [line for line in lines.messages if line.startswith("answered")]


def test_what_is_quiet_while_it_is_well_is_told_when_it_is_not(tmp_path, monkeypatch, lines):
    with running_shim(tmp_path, monkeypatch) as shim:
        shim.get("/orders/1-0000000000000000")
    assert any("route=/orders/{reference} status=404" in line for line in lines.messages)


def test_a_bug_is_a_line_without_its_text(tmp_path, monkeypatch, lines):
    def broken(*_, **__):
        raise RuntimeError("DOE^JANE")

    with running_shim(tmp_path, monkeypatch) as shim:
        monkeypatch.setattr("pipeline.web.order_service.OrderService.place", broken)
        shim.get("/mkiso.php?accession_number=A1", headers={"X-Request-ID": "his-42"})
    assert any(line.startswith('bug what="request his-42" error="RuntimeError < ') for line in lines.messages)
    assert "DOE" not in lines.text


DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_every_error_has_its_row_in_the_document_and_no_row_is_of_another():
    rows = re.findall(r"^\|[^|]+\| (\d{3}) \| `([^`]+)` \|", (DOCS / "shim.md").read_text(), re.MULTILINE)
    assert sorted(rows) == sorted((str(kind.status), kind.words) for kind in kinds())


@pytest.mark.parametrize("document", ["shim.md", "patient-api.md"])
def test_the_configurations_of_the_documents_are_ones(tmp_path, document):
    text = (DOCS / document).read_text()
    for example in re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        table = tomllib.loads(example)
        names = ["disc", "publisher", "archive2"]
        loaded = Settings.model_validate(
            {
                "folder": tmp_path,
                "site": {"spool": str(tmp_path)},
                "receiver": [
                    {"name": "cdrecord", "ae_title": "CDRECORD", "port": 1, "coerce": False, "mode": "association"}
                ],
                "destination": [{"name": name, "kind": "null"} for name in names],
                **table,
            }
        )
        from_table(loaded.patients)
