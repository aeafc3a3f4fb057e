"""/metrics: what stands there is what happened, by the conventions of Prometheus, and is no way in."""

import sqlite3
import time
from contextlib import closing

import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydicom.uid import generate_uid
from support.sites.line_site import NULL, all_settled, arrive, instance, rounds, settings_for, working
from support.sites.shim_site import running_shim

from pipeline.ledger import FILE_NAME, tallies
from pipeline.ledger.tallies import HOURS_KEPT, TallyKind
from pipeline.operate.measurements import measured
from pipeline.web.metrics import families_of

KEEPER = {"name": "keeper", "kind": "folder", "encode": "j2k"}


def samples(families) -> dict[tuple[str, ...], float]:
    """Return each value by the name of its sample and the values of its labels."""
    return {
        (sample.name, *sample.labels.values()): sample.value for family in families for sample in family.samples
    }


def numbers_of(site) -> dict[tuple[str, ...], float]:
    return samples(families_of(measured(site.settings, site.ledger, time.time())))


def test_a_study_is_counted_where_it_came_in_and_where_it_went(tmp_path):
    study = generate_uid()
    (tmp_path / "out").mkdir()
    files = [instance(tmp_path, name, StudyInstanceUID=study) for name in "ab"]
    with working(settings_for(tmp_path, destinations=[{**KEEPER, "folder": str(tmp_path / "out")}])) as (
        site,
        worker,
    ):
        arrive(site.spool, *files)
        rounds(worker, until=all_settled(site))
        numbers = numbers_of(site)
    size = sum(file.stat().st_size for file in files)
    assert numbers["storestow_received_instances_total", "modalities"] == 2
    assert numbers["storestow_received_bytes_total", "modalities"] == size
    assert numbers["storestow_delivered_instances_total", "keeper"] == 2
    assert numbers["storestow_delivered_deliveries_total", "keeper"] == 1
    assert 0 < numbers["storestow_delivered_bytes_total", "keeper"] < size
    assert numbers["storestow_encode_ratio", "keeper"] > 1
    assert numbers["storestow_study_verified_seconds_count", "keeper"] == 1
    assert numbers["storestow_study_verified_seconds_bucket", "keeper", "30.0"] == 0  # its files are 60 s old
    assert numbers["storestow_study_verified_seconds_bucket", "keeper", "120.0"] == 1
    assert 60 <= numbers["storestow_study_verified_seconds_sum", "keeper"] < 120
    assert numbers["storestow_waiting_deliveries", "keeper"] == 0
    assert numbers["storestow_spool_free_bytes",] > 0
    assert numbers["storestow_ledger_size_bytes",] > 0


def test_what_waits_fails_or_is_set_aside_is_told_by_kind(tmp_path):
    (tmp_path / "rubbish").write_bytes(b"no DICOM at all")
    dead = {"name": "dead", "kind": "stow", "url": "http://127.0.0.1:1/rs/studies"}
    with working(settings_for(tmp_path, destinations=[dead])) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        arrive(site.spool, tmp_path / "rubbish")
        rounds(
            worker, until=lambda: numbers_of(site).get(("storestow_failures_total", "delivery-deferred", "dead"))
        )
        numbers = numbers_of(site)
    assert numbers["storestow_waiting_deliveries", "dead"] == 1
    assert numbers["storestow_oldest_waiting_seconds", "dead"] > 0
    assert numbers["storestow_destination_up", "dead"] == 0
    assert numbers["storestow_quarantined_instances", "unusable"] == 1
    assert numbers["storestow_failures_total", "unusable", "modalities"] == 1


def test_what_has_not_happened_is_0_so_that_the_first_time_is_an_increase(tmp_path):
    with working(settings_for(tmp_path, destinations=[{"name": "archive", "kind": "null"}])) as (site, _):
        numbers = numbers_of(site)
    for kind in ("delivery-refused", "delivery-deferred"):
        assert numbers["storestow_failures_total", kind, "archive"] == 0
    for code in ("conflict", "unusable", "other-patient", "over-limit"):
        assert numbers["storestow_quarantined_instances", code] == 0
    assert ("storestow_quarantined_instances", "unclaimed") not in numbers, "nobody needs to look at it"
    assert numbers["storestow_received_instances_total", "modalities"] == 0
    assert numbers["storestow_delivered_instances_total", "archive"] == 0


def test_a_scrape_is_read_by_prometheus_own_parser_and_names_follow_its_conventions(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        answer = shim.get("/metrics")
        families = list(text_string_to_metric_families(answer.text))
    assert answer.headers["Content-Type"].startswith("text/plain; version=")
    assert {family.name for family in families} >= {
        "storestow_build_info",
        "storestow_worker_heartbeat_timestamp_seconds",
    }
    for family in families:
        assert family.name.startswith("storestow_")
        assert family.documentation
        assert all(sample.name.endswith("_total") for sample in family.samples if family.type == "counter")
    assert samples(families)["storestow_ledger_readable",] == 1


def test_metrics_want_a_key_and_their_own_opens_nothing_else(tmp_path, monkeypatch):
    own = "for-monitoring-alone"
    with running_shim(tmp_path, monkeypatch, shim={"metrics_key": own}) as shim:
        assert shim.get("/metrics", key=None).status_code == 401
        assert shim.get("/metrics", key="wrong").status_code == 401
        assert shim.get("/metrics").status_code == 200
        assert shim.get("/metrics", key=None, headers={"Authorization": f"Bearer {own}"}).status_code == 200
        assert shim.get("/api/iso/download?accession_number=A1", key=own).status_code == 401
        assert shim.get("/", key=own).status_code == 401


def test_a_ledger_that_cannot_be_read_is_a_metric_too(tmp_path, monkeypatch):
    with running_shim(tmp_path, monkeypatch) as shim:
        (tmp_path / "spool" / FILE_NAME).unlink()
        answer = shim.get("/metrics")
    assert answer.status_code == 200
    assert "storestow_ledger_readable 0.0" in answer.text


def test_hours_long_past_are_added_up_and_no_counter_falls(tmp_path):
    with working(settings_for(tmp_path)) as (site, _), site.ledger.transaction() as connection:
        for age in (0, 1, HOURS_KEPT + 5, HOURS_KEPT + 900):
            at = 1_800_000_000.0 - age * 3600
            tallies.add(connection, at, TallyKind.RECEIVED, "modalities", "CT1", instances=7, size=100)
        (before,) = tallies.totals(connection)
        tallies.roll_up(connection, 1_800_000_000.0)
        (after,) = tallies.totals(connection)
        kept = tallies.since(connection, 0.0, TallyKind.RECEIVED)
    assert after == before
    assert (after.times, after.instances, after.bytes) == (4, 28, 400)
    assert {count.hour for count in kept} == {500_000, 499_999}


@pytest.mark.parametrize("rows", [200_000])
def test_a_scrape_stays_quick_however_much_the_ledger_holds(tmp_path, rows):
    with working(settings_for(tmp_path, destinations=[NULL])) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=all_settled(site))
        with closing(sqlite3.connect(site.spool.root / FILE_NAME)) as ledger:
            columns = [row[1] for row in ledger.execute("PRAGMA table_info(instance)") if row[1] != "id"]
            taken = ", ".join(
                "i.sop_instance_uid || n.value" if c == "sop_instance_uid" else f"i.{c}" for c in columns
            )
            ledger.execute(
                f"WITH RECURSIVE n(value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < {rows}) "
                f"INSERT INTO instance ({', '.join(columns)}) SELECT {taken} FROM instance i, n"
            )
            ledger.commit()
        measured(site.settings, site.ledger, time.time())
        began = time.process_time()
        numbers = measured(site.settings, site.ledger, time.time())
        took = time.process_time() - began
    assert numbers.totals
    assert took < 0.25
