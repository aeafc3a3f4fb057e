"""An unclaimed instance is known by its code, whatever its reason says, and in what earlier releases wrote."""

import contextlib
import json

import pytest
from sqlalchemy import insert, select, text
from support.sites import ledger_place
from support.sites.older_ledger import back_to_version_2

from pipeline.ledger import accounts, retrievals, unclaimed
from pipeline.ledger.scope import LINE
from pipeline.ledger.tables import arrival, delivery, instance, receipt
from pipeline.model import InstanceCode, InstanceState

pytestmark = pytest.mark.both_databases
NAME = "1-r-1"
NOT_UNCLAIMED = {"state": InstanceState.PASSED, "reason": unclaimed.REMARK, "code": None, "consigned": True}
ARRIVAL = {"name": NAME, "receiver": "r", "state": "settled", "admitted_at": 0.0, "newest_file_at": 0.0}


@pytest.fixture
def ledger(tmp_path):
    opened, _ = ledger_place.opened(tmp_path)
    with contextlib.closing(opened):
        yield opened


@pytest.fixture
def connection(ledger):
    """Yield a connection to a ledger with one arrival."""
    with ledger.transaction() as change:
        change.execute(insert(arrival).values(**ARRIVAL))
        yield change


def row_of(number: int, values) -> dict:
    return {
        "id": number,
        "arrival": NAME,
        "file": f"CT.{number}",
        "scope": LINE,
        "study_instance_uid": "1.2",
        "series_instance_uid": "1.2.3",
        "sop_instance_uid": f"1.2.3.{number}",
        "calling_ae_title": "CT",
        "called_ae_title": "STORESTOW",
        "size": 1,
        "received_sha256": "a",
        **values,
    }


def enter(connection, number: int, values) -> None:
    connection.execute(insert(instance).values(row_of(number, values)))


def kept(connection) -> list[tuple[str | None, InstanceCode | None]]:
    wanted = select(instance.c.reason, instance.c.code).order_by(instance.c.id)
    return [(reason, code) for reason, code in connection.execute(wanted)]


def test_any_number_of_unclaimed_instances_may_go_somewhere_after_all(connection):
    enter(connection, 65_999, unclaimed.COLUMNS)
    unclaimed.claim(connection, range(66_000))  # no statement takes so many parameters
    assert kept(connection) == [(None, None)]


def test_those_that_go_somewhere_are_found_by_their_code(connection):
    enter(connection, 1, {**unclaimed.COLUMNS, "reason": "in other words"})
    enter(connection, 2, NOT_UNCLAIMED)
    unclaimed.claim(connection, [1, 2])
    assert kept(connection) == [(None, None), (unclaimed.REMARK, None)]


def test_those_that_an_order_uses_are_found_by_their_code(connection):
    enter(connection, 1, {**unclaimed.COLUMNS, "reason": "in other words"})
    enter(connection, 2, NOT_UNCLAIMED)
    enter(connection, 3, unclaimed.COLUMNS)
    retrievals.enter(connection, "1.2", (), [1, 2], now=1.0)
    assert kept(connection) == [
        (None, None),
        (unclaimed.REMARK, None),
        (unclaimed.REMARK, InstanceCode.UNCLAIMED),
    ]


def test_the_remark_of_an_arrival_is_made_of_the_codes_of_its_instances(connection):
    enter(connection, 1, NOT_UNCLAIMED)
    assert unclaimed.remark_of(connection, NAME) is None
    enter(connection, 2, {**unclaimed.COLUMNS, "reason": "in other words"})
    assert unclaimed.remark_of(connection, NAME) == "unclaimed"
    row = {"destination": "d", "receiver": "r", "study_instance_uid": "1.2", "state": "waiting"}
    connection.execute(insert(delivery).values(id=1, created_at=0.0, due_at=0.0, **row))
    pin = {"path": "", "sha256": "", "size": 1, "transfer_syntax_uid": "1", "encoding": "none"}
    connection.execute(insert(receipt).values(delivery=1, instance=1, state="pending", **pin))
    assert unclaimed.remark_of(connection, NAME) == "partly unclaimed"


@pytest.mark.parametrize("written_by", ["this-release", "one-without-this-code", "one-without-codes"])
def test_a_lost_ledger_gets_the_code_back_from_the_account(written_by, connection):
    enter(connection, 1, unclaimed.COLUMNS)
    enter(connection, 2, {"state": InstanceState.PASSED, "reason": None})
    account = json.loads(json.dumps(accounts.account_of(connection, NAME, 1.0)))
    assert [entry["code"] for entry in account["instances"]] == ["unclaimed", None]
    for entry in account["instances"]:
        if written_by == "one-without-this-code":
            entry["code"] = None
        elif written_by == "one-without-codes":
            del entry["code"]
    connection.execute(instance.delete())
    connection.execute(arrival.delete())
    accounts.restore(connection, account)
    assert kept(connection) == [(unclaimed.REMARK, InstanceCode.UNCLAIMED), (None, None)]


def test_a_ledger_of_an_earlier_release_gets_the_code_at_the_upgrade(ledger):
    back_to_version_2(ledger)
    reasons = ["unclaimed", None, "not unclaimed"]
    with ledger.transaction() as change:
        change.execute(insert(arrival).values(hidden_files=0, empty_files=0, **ARRIVAL))
        for number, reason in enumerate(reasons):
            row = {**row_of(number, {"state": InstanceState.PASSED, "reason": reason}), "consigned": True}
            columns = ", ".join(row)
            values = ", ".join(f":{column}" for column in row)
            change.execute(text(f"INSERT INTO instance ({columns}) VALUES ({values})"), {**row, "scope": "line"})
    ledger.create(has_copy=True)
    with ledger.transaction() as change:
        assert kept(change) == list(zip(reasons, [InstanceCode.UNCLAIMED, None, None], strict=True))
        assert unclaimed.remark_of(change, NAME) == "unclaimed"
        unclaimed.claim(change, [0])
        assert kept(change)[0] == (None, None)
