"""The account of an arrival: everything the ledger knows of it, as JSON, and the way back."""

from collections.abc import Iterable
from functools import cache
from typing import Any

from sqlalchemy import Connection, Table, bindparam, insert, select

from pipeline.ledger import attempts, study_patients, unclaimed
from pipeline.ledger.scope import Scope
from pipeline.ledger.tables import arrival, delivery, instance, receipt
from pipeline.model import ArrivalState, DeliveryState

VERSION = 1


def account_of(
    connection: Connection, name: str, settled_at: float, state: ArrivalState = ArrivalState.SETTLED, **more: Any
) -> dict[str, Any]:
    """Return an arrival as it will be in `state`: its row, its instances, their receipts and deliveries."""
    about = _by_name(arrival, connection.execute(_ARRIVAL, {"arrival": name}).one())
    instances = [_by_name(instance, row) for row in connection.execute(_INSTANCES, {"arrival": name})]
    answers = _deliveries(connection, name)
    for entry in instances:
        entry["scope"] = entry["scope"].text
        entry["deliveries"] = answers.get(entry["id"], [])
    then = {**about, "state": state, "settled_at": settled_at, **more}
    patients = study_patients.of_arrival(connection, name)
    made = attempts.as_json(connection, name)
    return {"version": VERSION, "arrival": then, "instances": instances, "patients": patients, "attempts": made}


_ARRIVAL = select(arrival).where(arrival.c.name == bindparam("arrival"))
_INSTANCES = select(instance).where(instance.c.arrival == bindparam("arrival")).order_by(instance.c.id)
_RECEIPTS = (
    select(receipt, delivery)
    .join(delivery, delivery.c.id == receipt.c.delivery)
    .join(instance, instance.c.id == receipt.c.instance)
    .where(instance.c.arrival == bindparam("arrival"))
    .order_by(delivery.c.id)
)


def _deliveries(connection: Connection, name: str) -> dict[int, list[dict[str, Any]]]:
    """Return, for each instance of an arrival, its receipts with their deliveries."""
    answers: dict[int, list[dict[str, Any]]] = {}
    for row in connection.execute(_RECEIPTS, {"arrival": name}):
        answer = {"receipt": _by_name(receipt, row), "delivery": _by_name(delivery, row[len(receipt.columns) :])}
        # This number is valid in this ledger only; the key names what it refers to.
        del answer["receipt"]["asked_by"]
        answers.setdefault(answer["receipt"]["instance"], []).append(answer)
    return answers


def _by_name(table: Table, values: Iterable[Any]) -> dict[str, Any]:
    """Return the columns of a selected table, which come first in `values`, by their names.

    The names are plain texts: of SQLAlchemy's own, JSON takes ten times as long.
    """
    return dict(zip(_names_of(table), values, strict=False))


@cache
def _names_of(table: Table) -> tuple[str, ...]:
    return tuple(map(str, table.columns.keys()))


def restore(connection: Connection, account: dict[str, Any]) -> None:
    """Enter an arrival from its account into a ledger that lost it.

    Raises:
        KeyError, TypeError, ValueError: the account is not one of ours.
    """
    if account["version"] != VERSION:
        raise ValueError(f"account version {account['version']} is not known")
    about = dict(account["arrival"])
    connection.execute(insert(arrival).values(**about))
    patients = [{**row, "scope": Scope.of_text(row["scope"])} for row in account.get("patients", ())]
    study_patients.enter_missing(connection, patients)
    numbers: dict[int, int] = {}  # of a delivery in the ledger that was lost: its number in this one
    for entry in account["instances"]:
        row = {**entry, "scope": Scope.of_text(entry["scope"]), "code": unclaimed.code_in(entry)}
        answers = row.pop("deliveries")
        row.pop("id")
        made = connection.execute(insert(instance).values(**row)).inserted_primary_key
        assert made is not None
        for answer in answers:
            number = numbers[answer["delivery"]["id"]] = _delivery_again(connection, answer["delivery"])
            values = {**answer["receipt"], "delivery": number, "instance": made[0]}
            connection.execute(insert(receipt).values(**values))
    attempts.enter_missing(connection, account.get("attempts", ()), numbers)


def _delivery_again(connection: Connection, row: dict[str, Any]) -> int:
    """Return the number of this delivery in the new ledger: several accounts may mention the same one."""
    same = (
        (delivery.c.destination == row["destination"])
        & (delivery.c.receiver == row["receiver"])
        & (delivery.c.study_instance_uid == row["study_instance_uid"])
        & (delivery.c.created_at == row["created_at"])
    )
    number: int | None = connection.scalar(select(delivery.c.id).where(same))
    if number is None:
        values = {key: value for key, value in row.items() if key not in {"id", "claim"}}
        if row["state"] not in {DeliveryState.DELIVERED, DeliveryState.REFUSED}:  # It was opened again by `retry`.
            values |= {
                "state": DeliveryState.WAITING,
                "held": True,
                "reason": "the ledger was lost: `retry` sends it",
            }
        made = connection.execute(insert(delivery).values(**values)).inserted_primary_key
        assert made is not None
        number = made[0]
    return number
