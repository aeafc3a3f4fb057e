"""What the ledger promises of its database, in SQLite and in PostgreSQL alike."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import inspect, select, text, update
from sqlalchemy.exc import DatabaseError, IntegrityError
from support.sites import ledger_place
from support.sites.older_ledger import back_to_version_2

from pipeline import ledger as ledger_module
from pipeline.errors import Configuration, Transient
from pipeline.ledger import Ledger, arrivals, deliveries, migrations, notes, orders, reports
from pipeline.ledger.claims import Claimant, Fenced
from pipeline.ledger.scope import LINE
from pipeline.ledger.tables import arrival, delivery, destination, instance
from pipeline.model import ArrivalState, InstanceState

pytestmark = pytest.mark.both_databases
LARGE = 9_000_000_000  # More bytes than 32 bits count.


@pytest.fixture
def ledger(tmp_path):
    opened, _ = ledger_place.opened(tmp_path)
    yield opened
    opened.close()


def received(**more) -> dict:
    row = {
        "arrival": "1-modalities-1",
        "file": "CT.1",
        "state": InstanceState.RECEIVED,
        "scope": LINE,
        "study_instance_uid": "1.2",
        "series_instance_uid": "1.2.3",
        "sop_instance_uid": "1.2.3.4",
        "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2",
        "calling_ae_title": "CT",
        "called_ae_title": "STORESTOW",
        "size": 1,
        "received_sha256": "a",
        "data_set_sha256": "b",
        "transfer_syntax_received": "1.2.840.10008.1.2.1",
    }
    return {**row, **more}


def enter(ledger: Ledger, *rows: dict) -> None:
    with ledger.transaction() as connection:
        name = "1-modalities-1"
        arrivals.admit(
            connection, {"name": name, "receiver": "modalities", "admitted_at": 1.0, "newest_file_at": 1.0}
        )
        arrivals.take_in(connection, name, rows)


def test_sizes_and_numbers_may_exceed_32_bits(ledger):
    enter(ledger, received(id=LARGE, size=LARGE, pixel_length=LARGE, encoded_length=LARGE, consigned=False))
    with ledger.transaction() as connection:
        pin = {"path": "x", "sha256": "x", "size": LARGE, "transfer_syntax_uid": "1", "encoding": "none"}
        values = {"destination": "d", "receiver": "r", "study_instance_uid": "1.2", "created_at": 1, "due_at": 1}
        number = deliveries.consign(connection, values, [{"instance": LARGE, **pin}])
        deliveries.made(connection, number, Path("/discs/a.iso"), LARGE)
    with ledger.reading() as connection:
        (row,) = reports.instances_of(connection, "1-modalities-1")
        assert (row.id, row.size, row.pixel_length, row.encoded_length) == (LARGE,) * 4
        (traced,) = reports.trace(connection, "1.2")
        assert traced.delivery == number


def test_a_nul_that_a_peer_wrote_is_shown_as_unreadable_and_ends_nothing(ledger):
    changes = [{"keyword": "StudyID", "before": "a\0b", "after": None, "rule": "x"}]
    enter(ledger, received(accession_number="A\0 1", reason="said \0", changes=changes))
    with ledger.reading() as connection:
        (row,) = reports.instances_of(connection, "1-modalities-1")
        assert (row.accession_number, row.reason, row.changes) == ("A\ufffd 1", "said \ufffd", changes)
        assert len(reports.trace(connection, "A\0 1")) == 1
        assert reports.trace(connection, "A 1") == []


def test_a_key_that_is_taken_is_refused_and_the_whole_transaction_with_it(ledger):
    enter(ledger, received())

    def enter_another() -> None:
        with ledger.transaction() as connection:
            arrivals.set_state(connection, "1-modalities-1", ArrivalState.SETTLED)
            connection.execute(instance.insert().values(**received(file="CT.2")))

    with pytest.raises(IntegrityError):
        enter_another()
    with ledger.reading() as connection:
        assert arrivals.states(connection) == {"1-modalities-1": ArrivalState.PROCESSING}


def test_the_text_of_an_error_does_not_quote_what_a_statement_was_given(ledger):
    with pytest.raises(DatabaseError) as caught, ledger.reading() as connection:
        connection.execute(text("SELECT 1 FROM nowhere WHERE name = :name"), {"name": "DOE^JANE"})
    assert "nowhere" in str(caught.value)
    assert "DOE" not in str(caught.value)


def test_who_reads_sees_one_state_while_another_writes(ledger):
    enter(ledger, received())
    with ledger.reading() as connection:
        assert connection.scalar(select(arrival.c.reason)) is None
        with ledger.transaction() as other:
            arrivals.set_state(other, "1-modalities-1", ArrivalState.PROCESSING, "new")
        assert connection.scalar(select(arrival.c.reason)) is None
    with ledger.reading() as connection:
        assert connection.scalar(select(arrival.c.reason)) == "new"


@pytest.mark.parametrize("flushed", [True, False])
def test_writers_take_turns_and_no_update_is_lost(flushed, ledger):
    with ledger.transaction() as connection:
        connection.execute(destination.insert().values(name="d", down_since=0))

    def add(_number: int) -> None:
        with ledger.transaction(flushed=flushed) as connection:
            seen = connection.scalar(select(destination.c.down_since))
            connection.execute(update(destination).values(down_since=seen + 1))

    with ThreadPoolExecutor(6) as threads:
        list(threads.map(add, range(60)))
    with ledger.reading() as connection:
        assert connection.scalar(select(destination.c.down_since)) == 60


def test_what_fails_in_a_transaction_leaves_nothing_and_frees_the_next_one(ledger):

    def fail() -> None:
        with ledger.transaction() as connection:
            notes.write(connection, "key", "value")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert ledger.noted("key") is None
    done = threading.Event()

    def write() -> None:
        with ledger.transaction() as connection:
            notes.write(connection, "key", "value")
        done.set()

    threading.Thread(target=write, daemon=True).start()
    assert done.wait(10)
    assert ledger.noted("key") == "value"


def consigned(ledger: Ledger) -> int:
    enter(ledger, received())
    with ledger.transaction() as connection:
        (row,) = reports.instances_of(connection, "1-modalities-1")
        pin = {"path": "x", "sha256": "x", "size": 1, "transfer_syntax_uid": "1", "encoding": "none"}
        values = {"destination": "d", "receiver": "r", "study_instance_uid": "1.2", "created_at": 1, "due_at": 1}
        return deliveries.consign(connection, values, [{"instance": row.id, **pin}])


@pytest.mark.parametrize("one_a_study", [True, False])
def test_of_several_who_claim_a_delivery_one_gets_it(one_a_study, ledger):
    number = consigned(ledger)

    def claim(_number: int) -> object:
        with ledger.transaction() as connection:
            return deliveries.claim(connection, number, 2.0, Claimant(), slots=9, one_a_study=one_a_study)

    with ThreadPoolExecutor(6) as threads:
        (row,) = filter(None, threads.map(claim, range(12)))
    assert (row.id, row.state, row.attempts) == (number, "sending", 1)


@pytest.mark.parametrize("decided", [{"held": True}, {"state": "refused"}, {"state": "delivered"}])
def test_what_a_person_decided_after_the_list_was_read_is_not_attempted(decided, ledger):
    number = consigned(ledger)
    with ledger.transaction() as connection:
        assert deliveries.due(connection, "d", 2.0) == [number]
        connection.execute(update(delivery).values(**decided))
        assert deliveries.claim(connection, number, 2.0, Claimant(), slots=9) is None
        assert deliveries.claim(connection, number + 1, 2.0, Claimant(), slots=9) is None, "there is none"


def order(ledger: Ledger, *accessions: str) -> int:
    with ledger.transaction() as connection:
        values = {"key": str(accessions), "verb": "retrieve", "destination": "d", "modalities": ()}
        return orders.enter(connection, now=1.0, accessions=accessions, **values)


def test_an_order_is_found_by_each_of_its_accession_numbers_and_by_no_part_of_one(ledger):
    first, second = order(ledger, "A-1", "b_2%", 'quo"te'), order(ledger, "A-11")
    with ledger.reading() as connection:
        for subject, found in {"A-1": [first], "A-11": [second], "b_2%": [first], 'quo"te': [first]}.items():
            assert [row.id for row in reports.orders_of(connection, subject)] == found, subject
        for subject in ("A", "a-1", "B_2%", "bx2y", "%"):
            assert reports.orders_of(connection, subject) == [], subject


def test_the_ledger_says_how_large_it_is_and_where(ledger, tmp_path):
    assert ledger.size() > 10_000
    assert ledger.exists()
    assert ledger.identity() is not None
    assert ledger.name in {str(tmp_path / "ledger.sqlite3"), ledger.name}


def test_nobody_works_on_a_ledger_that_no_worker_has_made(tmp_path):
    untouched = ledger_place.ledger_of(tmp_path)
    with pytest.raises(Configuration, match="start the worker"):
        untouched.require_tables()
    untouched.close()


def test_a_ledger_that_exists_is_not_made_again(ledger, tmp_path):
    with ledger.transaction() as connection:
        notes.write(connection, "mark", "kept")
    again, was_lost = ledger_place.opened(tmp_path)
    assert not was_lost
    assert again.noted("mark") == "kept"
    again.close()


def test_a_lost_ledger_is_said_to_be_lost_once(ledger, tmp_path):
    ledger.close()
    ledger_place.lose(tmp_path)
    for expected in (True, False):
        again, was_lost = ledger_place.opened(tmp_path)
        assert was_lost is expected
        assert again.noted("rebuilt_at")
        again.close()


def schema(ledger: Ledger) -> dict[str, object]:
    with ledger.reading() as connection:
        seen, found = inspect(connection), {}
        for table in seen.get_table_names():
            for column in seen.get_columns(table):
                found[f"{table}.{column['name']}"] = (str(column["type"]), column["nullable"])
            found[f"{table}: key"] = seen.get_pk_constraint(table)["constrained_columns"]
            for index in seen.get_indexes(table):
                found[f"{table}: index {index['name']}"] = (index["column_names"], bool(index["unique"]))
            found[f"{table}: refers to"] = sorted(
                str(key["referred_table"]) for key in seen.get_foreign_keys(table)
            )
    return found


def test_every_step_leads_to_what_a_new_ledger_is(ledger, ledger_database):
    new = schema(ledger)
    back_to_version_2(ledger)
    assert schema(ledger) != new
    with ledger.reading() as connection:
        assert migrations.version_of(connection) == 2
    if ledger_database == "postgresql":
        with pytest.raises(Configuration, match=r"pg_dump .* `storestow migrate`"):
            ledger.create()
        assert schema(ledger) != new
    ledger.create(has_copy=True)
    assert schema(ledger) == new
    first, second = order(ledger, "A1"), order(ledger, "A2")
    assert (first, second) == (1, 2), "rows are numbered"


def test_a_failing_step_changes_nothing(ledger, monkeypatch):
    back_to_version_2(ledger)
    before, good = schema(ledger), migrations.migrations()
    broken = migrations.Migration(
        len(good) + 3, "broken", ("CREATE TABLE half (a INTEGER)", "ALTER TABLE no ADD b")
    )
    monkeypatch.setattr(migrations, "migrations", lambda: (*good, broken))
    with pytest.raises(Exception, match="no"):
        ledger.create(has_copy=True)
    assert schema(ledger) == before


def test_what_must_be_recorded_is_tried_until_the_ledger_takes_it_and_no_longer_than_it_is_open(
    ledger, monkeypatch, caplog
):
    monkeypatch.setattr(ledger_module, "INSIST_PAUSE", 0.01)
    tries: list[int] = []

    def write() -> str:
        tries.append(1)
        if len(tries) < 3:
            raise Transient("not now")
        return "written"

    def never() -> None:
        tries.append(1)
        raise Transient("not now")

    assert ledger.insist(write) == "written"
    assert len(tries) == 3
    assert caplog.text.count('held what=record reason="not now"') == 1, "a person may have to make room"
    monkeypatch.setattr(ledger_module, "INSIST_SECONDS", 0.05)
    with pytest.raises(Transient):
        ledger.insist(never)
    monkeypatch.setattr(ledger_module, "INSIST_SECONDS", 300.0)
    ledger.close()
    tries.clear()
    with pytest.raises(Transient):
        ledger.insist(never)
    assert len(tries) == 1


def test_who_is_fenced_does_not_insist(ledger):
    tries: list[int] = []

    def write() -> None:
        tries.append(1)
        raise Fenced

    with pytest.raises(Fenced):
        ledger.insist(write)
    assert len(tries) == 1
