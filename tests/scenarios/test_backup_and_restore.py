"""A ledger copied while the worker runs, put back later: the rooms bring the rest, and nothing is sent twice."""

import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import select
from support.machine.dicom_programs import free_port, running, wait_until
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working
from support.sites.running_site import COMMAND, command, write_site

from pipeline.commands.backup import backup
from pipeline.errors import Configuration, Usage
from pipeline.ledger import FILE_NAME, migrations, open_ledger
from pipeline.ledger.tables import delivery
from pipeline.ledger.tables import instance as instances
from pipeline.line.reconcile import reconcile

STATES = ("arrivals", "instances", "deliveries")


def restore(copy: Path, spool: Path) -> None:
    """As docs/security.md says: everything stands still, and what SQLite keeps beside the ledger goes with it."""
    for beside in ("-wal", "-shm"):
        Path(f"{spool / FILE_NAME}{beside}").unlink(missing_ok=True)
    copy.rename(spool / FILE_NAME)


def test_a_copy_taken_at_work_is_whole_and_after_its_restore_the_rooms_bring_the_rest(tmp_path):
    shelf, other = tmp_path / "shelf", tmp_path / "other"
    shelf.mkdir()
    settings = settings_for(
        tmp_path,
        destinations=[
            {"name": "shelf", "kind": "folder", "folder": str(shelf)},
            {"name": "other", "kind": "folder", "folder": str(other)},
        ],
    )
    copy = tmp_path / "copy.sqlite3"
    with working(settings) as (site, worker):
        first = arrive(site.spool, instance(tmp_path, "a"))
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1, "deferred": 1})
        assert backup(site.ledger, copy) == copy.stat().st_size
        other.mkdir()
        with site.ledger.transaction() as change:
            change.execute(delivery.update().values(due_at=0))
        later = arrive(site.spool, instance(tmp_path, "b"))
        rounds(worker, until=lambda: states(site, "arrivals") == {"settled": 2}, seconds=60)
        whole = {table: states(site, table) for table in STATES}
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    with closing(sqlite3.connect(copy)) as ledger:
        assert ledger.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert ledger.execute("SELECT count(*) FROM arrival").fetchone() == (1,)
    before = {file: file.read_bytes() for folder in (shelf, other) for file in folder.rglob("*.dcm")}
    assert len(before) == 4

    restore(copy, site.spool.root)
    with working(settings) as (site, worker):
        reconcile(site)  # as a worker begins
        with site.ledger.transaction() as change:  # what was put off then is tried again
            change.execute(delivery.update().values(due_at=0))
        rounds(worker, until=lambda: {table: states(site, table) for table in STATES} == whole, seconds=60)
        with site.ledger.reading() as look:
            known = set(look.scalars(select(instances.c.arrival)))
        assert known == {first, later}
    assert {file: file.read_bytes() for folder in (shelf, other) for file in folder.rglob("*.dcm")} == before


def test_nothing_is_overwritten_and_nothing_is_left_where_it_cannot_be_written(tmp_path):
    ledger, _ = open_ledger(tmp_path)
    try:
        there = tmp_path / "there"
        there.write_text("something else")
        with pytest.raises(Usage, match="is not overwritten"):
            backup(ledger, there)
        assert there.read_text() == "something else"
        with pytest.raises(Configuration, match="cannot be written"):
            backup(ledger, tmp_path / "missing" / "copy")
    finally:
        ledger.close()


@pytest.mark.programs
@pytest.mark.parametrize("mode", ["association", "study"])
def test_a_receiver_says_that_its_worker_refuses_a_ledger_of_a_newer_release(tmp_path, mode):
    port = free_port()
    receiver = {"name": "modalities", "ae_title": "STORESTOW", "port": port, "mode": mode, "to": ["nowhere"]}
    file = write_site(tmp_path, receivers=[{**receiver, "quiet_seconds": 1}])
    spool = tmp_path / "spool"
    spool.mkdir(exist_ok=True)
    open_ledger(spool)[0].close()
    with closing(sqlite3.connect(spool / FILE_NAME)) as ledger:
        ledger.execute(f"PRAGMA user_version = {migrations.newest() + 1}")
    log = tmp_path / "receiver.log"
    with running([*COMMAND, "--site", file, "receive", "modalities"], log=log, port=port):
        refused = command(file, "work")
        assert refused.returncode == 78
        assert "newer release" in refused.stderr
        wait_until(lambda: "worker-refuses receiver=modalities" in log.read_text(), seconds=30)
    assert "newer release" in log.read_text()
