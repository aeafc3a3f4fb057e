"""A ledger of an earlier release is brought up to date, after a copy; one of a later release is refused."""

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, inspect
from support.crash.moments import point_of
from support.machine.dicom_programs import free_port
from support.sites import line_site
from support.sites.older_ledger import VERSIONS, as_version, empty, empty_version_2

from pipeline.config.order_tables import PacsTable
from pipeline.dicom.accession import AccessionNumber
from pipeline.errors import Configuration, Transient
from pipeline.ledger import FILE_NAME, Ledger, migrations, open_ledger
from pipeline.ledger.tables import METADATA, arrival, delivery, instance, receipt
from pipeline.line import quarantine
from pipeline.orders import place, view
from pipeline.site.open_site import opened
from pipeline.worker.worker import Worker


def schema(path: Path) -> dict[str, object]:
    """Columns and indexes by name: what a step adds stands last, and the order of columns means nothing."""
    engine = create_engine(f"sqlite:///{path}")
    seen = inspect(engine)
    found: dict[str, object] = {}
    for table in seen.get_table_names():
        for column in seen.get_columns(table):
            found[f"{table}.{column['name']}"] = (
                str(column["type"]),
                column["nullable"],
                column["primary_key"] > 0,
            )
        for index in seen.get_indexes(table):
            where = str(index["dialect_options"].get("sqlite_where", ""))
            found[f"{table}: index {index['name']}"] = (index["column_names"], bool(index["unique"]), where)
        found[f"{table}: refers to"] = sorted(str(key["referred_table"]) for key in seen.get_foreign_keys(table))
    engine.dispose()
    return found


def rows(path: Path, table: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as ledger:
        return ledger.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


def version(path: Path) -> int:
    with closing(sqlite3.connect(path)) as ledger:
        number: int = ledger.execute("PRAGMA user_version").fetchone()[0]
    return number


@pytest.mark.parametrize("number", VERSIONS)
def test_a_ledger_of_an_older_version_becomes_what_a_new_one_is(tmp_path: Path, number: int) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    empty(old / FILE_NAME, number)
    for folder in (old, new):
        open_ledger(folder)[0].close()
    assert schema(old / FILE_NAME) == schema(new / FILE_NAME)
    assert version(old / FILE_NAME) == version(new / FILE_NAME) == migrations.newest()
    assert rows(old / FILE_NAME, "note") == [("schema", str(migrations.newest()))]
    assert migrations.newest() > migrations.FIRST


def test_the_ledger_as_it_was_stays_beside_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    empty_version_2(path)
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute("INSERT INTO note VALUES ('mark', 'kept')")
        ledger.commit()
    before = schema(path)
    open_ledger(tmp_path)[0].close()
    copy = tmp_path / f"{FILE_NAME}.version-2"
    assert schema(copy) == before
    assert ("mark", "kept") in rows(copy, "note")
    assert copy.stat().st_mode & 0o007 == 0  # it names what patients' studies were
    open_ledger(tmp_path)[0].close()
    assert sorted(p.name for p in tmp_path.glob(f"{FILE_NAME}.*")) == [copy.name]


@pytest.mark.parametrize("point", ["ledger-copied", "ledger-creating"])
def test_killed_while_it_is_brought_up_to_date_the_next_start_does_it(point: str, tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    empty_version_2(path)
    program = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom pipeline import crash_points\n"
        "from pipeline.ledger import open_ledger\n"
        f"point = {point_of(point)!r}\n"
        "crash_points.observer = lambda name: name == point and os.kill(os.getpid(), signal.SIGKILL)\n"
        "open_ledger(Path(sys.argv[1]))\n"
    )
    ended = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False).returncode
    assert ended == -signal.SIGKILL
    assert version(path) == 0
    ledger, was_lost = open_ledger(tmp_path)
    ledger.close()
    assert not was_lost
    assert version(path) == migrations.newest()


def test_a_newer_ledger_is_refused_with_words_and_not_touched(tmp_path: Path) -> None:
    open_ledger(tmp_path)[0].close()
    path = tmp_path / FILE_NAME
    with closing(sqlite3.connect(path)) as ledger:
        ledger.execute(f"PRAGMA user_version = {migrations.newest() + 5}")
    with pytest.raises(Configuration, match=r"newer release.*install that release again"):
        open_ledger(tmp_path)
    assert version(path) == migrations.newest() + 5


def test_an_earlier_release_refuses_what_this_one_wrote(tmp_path: Path) -> None:
    """It compares the note with its own number, which was 2."""
    open_ledger(tmp_path)[0].close()
    assert ("schema", "2") not in rows(tmp_path / FILE_NAME, "note")


def test_commands_do_not_work_on_an_older_ledger_before_the_worker_did(tmp_path: Path) -> None:
    empty_version_2(tmp_path / FILE_NAME)
    ledger = Ledger(tmp_path / FILE_NAME)
    with pytest.raises(Configuration, match=r"start the worker of this release"):
        ledger.require_tables()
    ledger.close()
    assert version(tmp_path / FILE_NAME) == 0


def test_without_room_for_the_copy_nothing_is_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_version_2(tmp_path / FILE_NAME)
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("pipeline.ledger.upgrade_plan.shutil.disk_usage", lambda _: usage)
    with pytest.raises(Transient, match=r"1000 bytes free are too few"):
        open_ledger(tmp_path)
    assert version(tmp_path / FILE_NAME) == 0


def test_a_failing_step_leaves_the_ledger_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty_version_2(tmp_path / FILE_NAME)
    before = schema(tmp_path / FILE_NAME)
    good = migrations.migrations()
    broken = migrations.Migration(
        len(good) + 3, "broken", ("CREATE TABLE half (a INTEGER)", "ALTER TABLE none ADD b")
    )
    monkeypatch.setattr(migrations, "migrations", lambda: (*good, broken))
    with pytest.raises(Exception, match="no such table: none"):
        open_ledger(tmp_path)
    assert schema(tmp_path / FILE_NAME) == before


def test_steps_are_numbered_without_gap_and_say_what_they_do() -> None:
    found = migrations.migrations()
    assert [step.version for step in found] == list(range(3, 3 + len(found)))
    assert all(step.statements for step in found)
    assert not [s for step in found for s in step.statements if ";" in s]


@pytest.mark.parametrize("numbers", [(3, 5), (3, 3), (4,)])
def test_a_missing_or_doubled_number_is_said(numbers: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    steps = [migrations.Migration(number, "some", ("SELECT 1",)) for number in numbers]
    monkeypatch.setattr(migrations, "_read", lambda: iter(steps))
    with pytest.raises(RuntimeError, match="without gap"):
        migrations.migrations.__wrapped__()


@pytest.mark.sqlite_file
@pytest.mark.parametrize("number", VERSIONS)
def test_what_waits_is_set_aside_and_ordered_goes_on_after_the_upgrade(tmp_path: Path, number: int) -> None:
    """A delivery put off, a file in quarantine and an order that was placed: each goes on where it stood."""
    shelf, away = tmp_path / "shelf", tmp_path / "not-mounted"
    shelf.mkdir()
    receivers = [
        {**line_site.RECEIVER, "to": ["shelf"]},
        {**line_site.RECEIVER, "name": "cdrecord", "port": 11113, "coerce": False, "to": []},
    ]
    nobody = {"ae_title": "PACS", "host": "127.0.0.1", "port": free_port(), "calling_ae_title": "US"}
    before = line_site.settings_for(
        tmp_path, destinations=[{"name": "shelf", "kind": "folder", "folder": str(shelf)}], receivers=receivers
    )
    settings = before.model_copy(update={"pacs": PacsTable.model_validate({**nobody, "receiver": "cdrecord"})})
    with line_site.working(settings) as (site, worker):
        (tmp_path / "rubbish").write_bytes(b"not a DICOM file" * 20)
        line_site.arrive(site.spool, line_site.instance(tmp_path), tmp_path / "rubbish")
        shelf.rename(away)
        line_site.rounds(worker, until=lambda: line_site.states(site, "deliveries") == {"deferred": 1})
        placed = place(
            site.ledger, settings, verb="retrieve", accessions=[AccessionNumber.parse("A1")], destination="shelf"
        )
    path = site.spool.root / FILE_NAME
    kept = {t.name: rows(path, t.name) for t in (arrival, instance, delivery, receipt)}
    as_version(path, number)
    assert version(path) == (0 if number == 2 else number)

    away.rename(shelf)
    with opened(settings) as site:
        for table, those in kept.items():
            assert [row[:2] for row in rows(path, table)] == [row[:2] for row in those], table
        assert len(quarantine.listed(site.ledger)["quarantined"]) == 1
        worker = Worker(site)
        with site.ledger.transaction() as change:
            change.execute(delivery.update().values(due_at=0))

        def order_ended() -> str | None:
            with site.ledger.reading() as look:
                found = view(look, placed.order_id)
            return found.error_kind if found and found.ended_at else None

        line_site.rounds(
            worker, until=lambda: order_ended() and line_site.states(site, "deliveries") == {"delivered": 1}
        )
        assert order_ended() == "pacs-unreachable"
    assert list(shelf.rglob("*.dcm"))


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("private SOP class: no reader knows what it is", "kind"),
        ("its SOP Class UID is missing", "damaged"),
        ("its compressed pixels cannot be decoded (ValueError)", "compressed"),
        ("JPEG XL is not decoded here", "compressed"),
        ("by its header it would be 5,000,000,000 bytes once decoded, too large for one file", "large"),
        ("4 GiB or larger, which a disc in ISO 9660 cannot hold as one file", "large"),
        ("a film, which a CD cannot have; a DVD or a USB stick can", "film"),
        ("it cannot be decoded: truncated: 7 bytes are left", "damaged"),
        ("another file of the same UIDs came first and is there; this one differs from it", "other-content"),
        ("a fault of this program ended its work on it; the log says where", "not-converted"),
        ("no reason is known", "other"),
    ],
)
def test_what_an_earlier_release_left_out_of_a_file_is_told_by_a_code_after_the_upgrade(
    tmp_path: Path, reason: str, code: str
) -> None:
    path = tmp_path / FILE_NAME
    empty_version_2(path)
    said = {1: ("warned", f"left out, and listed on what was made: {reason}"), 2: ("warned", reason)}
    said[3] = ("refused", f"left out, and listed on what was made: {reason}")
    with closing(sqlite3.connect(path)) as ledger:
        columns = "delivery, instance, state, message, code, verified, attempted, path, sha256, size, "
        columns += "transfer_syntax_uid, encoding"
        for number, (state, message) in said.items():
            values = (1, number, state, message, "x", 1, 1, "", "", 0, "", "none")
            ledger.execute(
                f"INSERT INTO receipt ({columns}) VALUES ({', '.join('?' * 12)})",
                values,
            )
        ledger.commit()
    open_ledger(tmp_path)[0].close()
    with closing(sqlite3.connect(path)) as ledger:
        found = ledger.execute("SELECT message, left_out FROM receipt ORDER BY instance").fetchall()
    assert found == [(reason, code), (reason, None), (said[3][1], None)]


def test_the_tables_are_those_of_the_newest_version(tmp_path: Path) -> None:
    open_ledger(tmp_path)[0].close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as ledger:
        names = {name for (name,) in ledger.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert names == set(METADATA.tables)
