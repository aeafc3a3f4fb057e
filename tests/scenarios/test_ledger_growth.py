"""What the worker's loop asks of a large ledger is answered by indexes: no round reads a table that grows."""

import re
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from support.sites.line_site import RECEIVER, arrive, instance, rounds, settings_for, states, working

from pipeline.config.order_tables import PacsTable
from pipeline.dicom.accession import AccessionNumber
from pipeline.ledger import FILE_NAME
from pipeline.orders import place
from pipeline.sending.send import send

GROWING = (
    "arrival",
    "instance",
    "receipt",
    "delivery",
    "retrieved",
    "on_disc",
    "disc",
    "orders",
    "order_study",
    "retrieval",
)
SMALL = (  # indexes that hold what is open, is here or awaits a person, and nothing that is over
    "to_consign", "outside_the_line", "not_compared", "one_open", "growing_deliveries",
    "discarded_instances", "arrivals_here", "made_files",
)  # fmt: skip
INSTANCES = 20_000


class Heard:
    """Every statement that was executed, with what was bound."""

    def __init__(self) -> None:
        self.statements: dict[str, Any] = {}

    def __call__(self, _c: object, _cursor: object, statement: str, bound: Any, _x: object, many: bool) -> None:
        if statement.lstrip().upper().startswith(("SELECT", "UPDATE", "DELETE")):
            self.statements[statement] = bound[0] if many else bound


def fill(path: Path) -> None:
    """Enter instances that were delivered and settled long ago, a hundred to an arrival."""
    with closing(sqlite3.connect(path)) as ledger:

        def copies(table: str, where: str, values: dict[str, str], times: int) -> None:
            columns = [row[1] for row in ledger.execute(f"PRAGMA table_info({table})")]
            chosen = ", ".join(values.get(column, f'"{column}"') for column in columns)
            count = f"WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {times})"
            names = ", ".join(f'"{column}"' for column in columns)
            ledger.execute(f"{count} INSERT INTO {table} ({names}) SELECT {chosen} FROM {table}, n WHERE {where}")

        arrivals = INSTANCES // 100
        first = "name = (SELECT min(name) FROM arrival)"
        copies(
            "arrival",
            first,
            {"name": "'old-' || n", "state": "'settled'", "gone_at": "1.0", "settled_at": "1.0"},
            arrivals,
        )
        uid = {"sop_instance_uid": "'1.2.3.' || n", "study_instance_uid": "'1.2.4.' || (n / 100)"}
        ids = {
            "id": "1000 + n",
            "arrival": "'old-' || (1 + n % 200)",
            "state": "'passed'",
            "consigned": "1",
            **uid,
        }
        copies("instance", "id = 1", ids, INSTANCES)
        copies("delivery", "id = 1", {"id": "1000 + n", "state": "'delivered'"}, arrivals)
        copies(
            "receipt",
            "instance = 1 AND delivery = 1",
            {"delivery": "1000 + 1 + n % 200", "instance": "1000 + n", "state": "'stored'", "verified": "1"},
            INSTANCES,
        )
        ledger.commit()


def scans(path: Path, statements: dict[str, Any]) -> list[str]:
    """Return each statement that reads all of a table that grows, or all of an index of it."""
    found = []
    with closing(sqlite3.connect(path)) as ledger:
        for statement, bound in statements.items():
            for *_, detail in ledger.execute(f"EXPLAIN QUERY PLAN {statement}", bound or ()):
                match = re.match(r"SCAN (\w+)(?: USING (?:COVERING )?INDEX (\w+))?", detail)
                if match and re.sub(r"_\d+$", "", match[1]) in GROWING and match[2] not in SMALL:
                    found.append(f"{detail}: {' '.join(statement.split())}")
    return found


@pytest.fixture
def large(tmp_path):
    receivers = [
        {**RECEIVER, "to": ["nowhere"]},
        {**RECEIVER, "name": "cdrecord", "port": 11113, "coerce": False, "to": []},
    ]
    before = settings_for(tmp_path, destinations=[{"name": "nowhere", "kind": "null"}], receivers=receivers)
    pacs = {"ae_title": "PACS", "host": "127.0.0.1", "port": 9, "calling_ae_title": "US", "receiver": "cdrecord"}
    settings = before.model_copy(update={"pacs": PacsTable.model_validate(pacs)})
    with working(settings) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "arrivals") == {"settled": 1})
    fill(site.spool.root / FILE_NAME)
    return settings


def test_no_statement_of_the_workers_loop_reads_a_table_that_grows(large, tmp_path):
    heard = Heard()
    with working(large) as (site, worker):
        event.listen(Engine, "before_cursor_execute", heard)
        try:
            arrive(site.spool, instance(tmp_path))
            place(
                site.ledger,
                large,
                verb="retrieve",
                accessions=[AccessionNumber.parse("A1")],
                destination="nowhere",
            )
            send(site.ledger, large, [instance(tmp_path, "b")], "nowhere")
            rounds(worker, until=lambda: len(list(site.spool.settled.iterdir())) == 3)
        finally:
            event.remove(Engine, "before_cursor_execute", heard)
    assert len(heard.statements) > 40
    assert scans(site.spool.root / FILE_NAME, heard.statements) == []


def test_no_statement_of_a_start_reads_a_table_that_grows(large):
    heard = Heard()
    event.listen(Engine, "before_cursor_execute", heard)
    try:
        with working(large) as (site, worker):
            worker.stop()
            worker.run()
    finally:
        event.remove(Engine, "before_cursor_execute", heard)
    assert any("discarded_at IS NOT NULL" in statement for statement in heard.statements)
    assert scans(site.spool.root / FILE_NAME, heard.statements) == []
