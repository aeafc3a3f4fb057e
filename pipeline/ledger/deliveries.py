"""The ledger's statements about deliveries and receipts: consign, claim, attempt, record, finish, retry."""

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, and_, bindparam, func, insert, not_, or_, select, text, true, update

from pipeline.ledger import attempts, tallies
from pipeline.ledger.claims import Claimant
from pipeline.ledger.rows import ClaimedDeliveryRow, DeliveryRow, read_one, read_one_or_none
from pipeline.ledger.tables import arrival, delivery, destination, instance, receipt
from pipeline.model import ARRIVED, DeliveryState, InstanceKey, InstanceState, Item, Receipt, ReceiptState
from pipeline.schedule import LONGEST_WAIT

OPEN = (DeliveryState.WAITING, DeliveryState.DEFERRED)
INTERRUPTED = "interrupted while sending"
GROWS_AT_MOST = 60.0  # Seconds until a delivery to which nothing was added is looked at again.

Value = TypeVar("Value")


def consign(connection: Connection, values: Mapping[str, Any], pinned: Sequence[Mapping[str, Any]]) -> int:
    """Open a delivery with one pending receipt for each instance, pinned to the very file that will be sent."""
    made = connection.execute(insert(delivery).values(state=DeliveryState.WAITING, **values)).inserted_primary_key
    assert made is not None
    number: int = made[0]
    rows = [{"delivery": number, "state": ReceiptState.PENDING, **pin} for pin in pinned]
    connection.execute(insert(receipt), rows)
    return number


def growing(connection: Connection, destination_name: str, receiver: str, study_instance_uid: str) -> int | None:
    """Return the delivery to which a study's instances are added while they are prepared."""
    wanted = select(delivery.c.id).where(
        delivery.c.growing,
        delivery.c.state.in_((*OPEN, DeliveryState.SENDING)),
        delivery.c.destination == destination_name,
        delivery.c.receiver == receiver,
        delivery.c.study_instance_uid == study_instance_uid,
    )
    return connection.scalar(wanted)


def all_growing(connection: Connection, receiver: str, study_instance_uid: str) -> list[int]:
    """Return the growing deliveries of a study, whatever their destination."""
    wanted = select(delivery.c.id).where(
        text("delivery.growing"),
        delivery.c.receiver == receiver,
        delivery.c.study_instance_uid == study_instance_uid,
    )
    return list(connection.scalars(wanted.order_by(delivery.c.id)))


def add(
    connection: Connection, number: int, pinned: Sequence[Mapping[str, Any]], now: float, *, is_last: bool
) -> None:
    """Add instances to a growing delivery and make it due; a deferred one keeps its time."""
    rows = [{"delivery": number, "state": ReceiptState.PENDING, **pin} for pin in pinned]
    if rows:
        connection.execute(insert(receipt), rows)
    its_row = delivery.c.id == number
    if is_last:
        connection.execute(update(delivery).where(its_row).values(growing=False))
    connection.execute(
        update(delivery).where(its_row, delivery.c.state == DeliveryState.WAITING).values(due_at=now)
    )


def abandoned(connection: Connection) -> list[int]:
    """Return deliveries that cannot grow any more: a person has taken the rest of their study away."""
    is_prepared = (
        select(instance.c.id)
        .join(arrival, arrival.c.name == instance.c.arrival)
        .where(
            instance.c.study_instance_uid == delivery.c.study_instance_uid,
            arrival.c.receiver == delivery.c.receiver,
            instance.c.state == InstanceState.RECEIVED,
            not_(instance.c.consigned),
        )
    )
    is_growing = text("delivery.growing")  # in the words of the index, which SQLAlchemy would write as "= 1"
    return list(connection.scalars(select(delivery.c.id).where(is_growing, ~is_prepared.exists())))


def unanswered(connection: Connection, number: int) -> frozenset[int]:
    """Return the row numbers of a delivery's instances that still need a receipt."""
    wanted = select(receipt.c.instance).where(receipt.c.delivery == number, needs_an_answer())
    return frozenset(connection.scalars(wanted))


def goes_on(connection: Connection, number: int, handed_over: frozenset[int], now: float) -> bool:
    """Let a delivery wait for the rest of its study, or go on at once with what was added during an attempt.

    `handed_over` are the instances of the attempt. Returns whether there is, or will be, anything else. The
    attempt does not count then, and its instances without an answer are tried again with the others.
    """
    was_added = bool(unanswered(connection, number) - handed_over)
    its_row = delivery.c.id == number
    if not was_added and not connection.scalar(select(delivery.c.growing).where(its_row)):
        return False
    values = {
        "state": DeliveryState.WAITING,
        "due_at": now if was_added else now + GROWS_AT_MOST,
        "attempts": delivery.c.attempts - 1,
        "claim": None,
    }
    connection.execute(update(delivery).where(its_row).values(**values))
    return True


def due(  # noqa: PLR0913  # each limit by its name
    connection: Connection,
    destination_name: str,
    now: float,
    *,
    one_a_study: bool = False,
    takes_parts: bool = False,
    at_most: int | None = None,
) -> list[int]:
    """Return the deliveries a destination may attempt now: orders first, because somebody waits, then the oldest.

    With `one_a_study` no two deliveries of the line are of the same study, and none is of a study already being
    attempted; without it there are no more than `at_most`. Only what `takes_parts` gets a delivery that is still
    growing.
    """
    wanted = (
        select(delivery.c.id, delivery.c.order_id, delivery.c.study_instance_uid)
        .where(
            delivery.c.destination == destination_name,
            delivery.c.state.in_(OPEN),
            delivery.c.held.is_(False),
            or_(delivery.c.due_at <= now, delivery.c.due_at > now + LONGEST_WAIT),  # The clock was set back.
        )
        .order_by(delivery.c.order_id.is_(None), delivery.c.created_at, delivery.c.id)
    )
    if not takes_parts:
        wanted = wanted.where(not_(delivery.c.growing))
    if not one_a_study:
        wanted = wanted.limit(at_most)
    busy = _studies_in_hand(connection, destination_name) if one_a_study else set()
    found = []
    for number, order, study in connection.execute(wanted):
        if order is None and study in busy:
            continue
        if order is None and one_a_study:
            busy.add(study)
        found.append(number)
    return found


def _studies_in_hand(connection: Connection, destination_name: str) -> set[str]:
    wanted = select(delivery.c.study_instance_uid).where(
        delivery.c.destination == destination_name,
        delivery.c.state == DeliveryState.SENDING,
        delivery.c.order_id.is_(None),
    )
    return set(connection.scalars(wanted))


def next_due(connection: Connection, destination_name: str, now: float) -> float | None:
    """Return when the next delivery to a destination becomes due, None if there is none."""
    wanted = select(func.min(delivery.c.due_at)).where(
        delivery.c.destination == destination_name,
        delivery.c.state.in_(OPEN),
        delivery.c.held.is_(False),
        delivery.c.due_at > now,
    )
    moment: float | None = connection.scalar(wanted)
    return moment


def for_orders(connection: Connection) -> set[int]:
    """Return the deliveries that somebody waits for."""
    is_for_one = delivery.c.order_id.is_not(None) & delivery.c.state.in_(OPEN)
    return set(connection.scalars(select(delivery.c.id).where(is_for_one)))


def claim(  # noqa: PLR0913  # each limit by its name
    connection: Connection,
    number: int,
    now: float,
    by: Claimant,
    *,
    slots: int,
    one_a_study: bool = False,
    only_for_orders: bool = False,
) -> ClaimedDeliveryRow | None:
    """Mark a delivery `sending` with a new token, and return its new row.

    Returns None if it is not open any more: after the list of what is due was read, another claimed it, or a
    person held it, gave it up or rerouted it. Also if its destination has `slots` deliveries in hand already, with
    `one_a_study` if one of them is of the same study, and with `only_for_orders` if it is of no order.
    """
    is_free = and_(delivery.c.id == number, delivery.c.state.in_(OPEN), delivery.c.held.is_(False))
    row = read_one_or_none(DeliveryRow, connection.execute(select(delivery).where(is_free)))
    if row is None or (only_for_orders and row.order_id is None):
        return None
    if in_hand(connection, row.destination) >= slots:
        return None
    if (
        one_a_study
        and row.order_id is None
        and row.study_instance_uid in _studies_in_hand(connection, row.destination)
    ):
        return None
    values = {
        "state": DeliveryState.SENDING,
        "attempts": delivery.c.attempts + 1,
        "first_attempt_at": func.coalesce(delivery.c.first_attempt_at, now),
        **by.values(),
    }
    connection.execute(update(delivery).where(is_free).values(**values))
    claimed = read_one(ClaimedDeliveryRow, connection.execute(select(delivery).where(delivery.c.id == number)))
    attempts.begin(connection, number, claimed.attempts, by.node, now)
    return claimed


def in_hand(connection: Connection, destination_name: str, *, except_of: str | None = None) -> int:
    """Count the deliveries that are being attempted at a destination, those of the worker `except_of` left out."""
    wanted = select(func.count()).where(
        delivery.c.destination == destination_name, delivery.c.state == DeliveryState.SENDING
    )
    if except_of is not None:
        wanted = wanted.where(delivery.c.worker != except_of)
    return connection.scalar(wanted) or 0


def is_in_hand(connection: Connection, number: int | None) -> bool:
    """Tell whether a delivery is being attempted."""
    return connection.scalar(select(delivery.c.state).where(delivery.c.id == number)) == DeliveryState.SENDING


def items(connection: Connection, number: int, spool: Path, *, answered: bool = False) -> list[tuple[int, Item]]:
    """Return the instances of a delivery without a receipt, or all if `answered`, with their row numbers."""
    wanted = (
        select(receipt, instance)
        .join(instance, instance.c.id == receipt.c.instance)
        .where(receipt.c.delivery == number, true() if answered else needs_an_answer())
        .order_by(instance.c.id)
    )
    return [(row.instance, item_of(row, spool)) for row in connection.execute(wanted)]


def needs_an_answer() -> Any:
    """Return the condition on a receipt that the delivery cannot end with.

    A receipt for another sender's instance that could not be compared is an end: asking again would not make it
    comparable.
    """
    awaits_proof = receipt.c.state.in_(ARRIVED - {ReceiptState.PRESENT}) & receipt.c.verified.is_(False)
    return or_(receipt.c.state == ReceiptState.PENDING, awaits_proof)


def is_not_compared() -> Any:
    """Return the condition on a receipt that a person must `accept` before its original may be deleted."""
    return and_(receipt.c.state == ReceiptState.PRESENT, receipt.c.verified.is_(False))


def accept(
    connection: Connection, named: Any, destination_name: str | None, reason: str, now: float
) -> tuple[list[int], int]:
    """Count as verified the instances selected by `named` that could not be compared.

    Returns their deliveries, and the number of instances.
    """
    wanted = (
        select(receipt.c.delivery, receipt.c.instance, receipt.c.message)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .join(instance, instance.c.id == receipt.c.instance)
        .where(named, is_not_compared())
    )
    if destination_name is not None:
        wanted = wanted.where(delivery.c.destination == destination_name)
    rows = list(connection.execute(wanted))
    for row in rows:
        is_it = (receipt.c.delivery == row.delivery) & (receipt.c.instance == row.instance)
        values = {"verified": True, "message": f"{row.message}; accepted by a person: {reason}", "at": now}
        connection.execute(update(receipt).where(is_it).values(**values))
    return sorted({row.delivery for row in rows}), len(rows)


def key_of(row: Any) -> InstanceKey:
    """Return the key of an instance; `row` has its columns."""
    return InstanceKey(row.study_instance_uid, row.series_instance_uid, row.sop_instance_uid)


def item_of(row: Any, spool: Path) -> Item:
    """Return an instance as its receipt pins it; `row` has the columns of both."""
    return Item(
        key=key_of(row),
        path=spool / row.path,
        sha256=row.sha256,
        size=row._mapping[receipt.c.size],  # noqa: SLF001  # SQLAlchemy's public mapping has this name
        sop_class_uid=row.sop_class_uid,
        transfer_syntax_uid=row.transfer_syntax_uid,
        calling_ae_title=row.calling_ae_title,
        called_ae_title=row.called_ae_title,
        institution=row.institution,
        attempted=row.attempted,
    )


def attempt(connection: Connection, number: int, instances: Iterable[int]) -> None:
    """Record that these instances may be at the peer from now on, whatever happens next."""
    for batch in batches(list(instances)):
        connection.execute(
            update(receipt)
            .where(receipt.c.delivery == number, receipt.c.instance.in_(batch))
            .values(attempted=True)
        )


def record(connection: Connection, number: int, answers: Mapping[int, Receipt], now: float) -> None:
    """Write what the peer said of each instance."""
    if not answers:
        return
    its_row = (receipt.c.delivery == number) & (receipt.c.instance == bindparam("row_number"))
    columns = ("state", "code", "message", "verified", "left_out")
    rows = [
        {"row_number": identity, **{f"new_{column}": getattr(answer, column) for column in columns}}
        for identity, answer in answers.items()
    ]
    values: dict[str, Any] = {column: bindparam(f"new_{column}") for column in columns}
    connection.execute(update(receipt).where(its_row).values(at=now, **values), rows)


def finish(connection: Connection, number: int, state: DeliveryState, reason: str | None, **more: Any) -> None:
    """Move a delivery to `state`; a refused one refuses instances without an answer."""
    values = {"state": state, "reason": reason, "claim": None, **more}
    connection.execute(update(delivery).where(delivery.c.id == number).values(**values))
    if state == DeliveryState.REFUSED:
        connection.execute(
            update(receipt)
            .where(receipt.c.delivery == number, needs_an_answer())
            .values(state=ReceiptState.REFUSED, message=reason or "")
        )
    now = more.get("finished_at") or time.time()
    attempts.end(connection, number, state, reason, now)
    tallies.delivery_changed(connection, number, state, now)


def made(connection: Connection, number: int, path: Path, size: int) -> None:
    """Record the file a delivery has made for a person to fetch; the last one counts."""
    values = {"made_path": str(path), "made_size": size}
    connection.execute(update(delivery).where(delivery.c.id == number).values(**values))


def tally(connection: Connection, number: int) -> dict[str, int]:
    """Count the receipts of a delivery by state.

    "unanswered" are those it cannot end with, "not_compared" those of `present` that a person must accept.
    """
    wanted = select(receipt.c.state, func.count()).where(receipt.c.delivery == number).group_by(receipt.c.state)
    counted: dict[str, int] = {row[0]: row[1] for row in connection.execute(wanted)}
    unanswered = select(func.count()).where(receipt.c.delivery == number, needs_an_answer())
    counted["unanswered"] = connection.scalar(unanswered) or 0
    not_compared = select(func.count()).where(receipt.c.delivery == number, is_not_compared())
    counted["not_compared"] = connection.scalar(not_compared) or 0
    return counted


def sending(connection: Connection, worker: str | None = None) -> set[int]:
    """Return the deliveries that a worker is, or was, attempting; only those of `worker`, if it is named."""
    wanted = select(delivery.c.id).where(delivery.c.state == DeliveryState.SENDING)
    if worker is not None:  # Releases before this column had one worker only.
        wanted = wanted.where(or_(delivery.c.worker == worker, delivery.c.worker.is_(None)))
    return set(connection.scalars(wanted))


def resume(connection: Connection, numbers: Iterable[int], due_at: float) -> None:
    """Make interrupted deliveries wait again; the receipts say what may have arrived."""
    for number in numbers:
        values = {"state": DeliveryState.WAITING, "due_at": due_at, "reason": INTERRUPTED, "claim": None}
        interrupted = (delivery.c.id == number) & (delivery.c.state == DeliveryState.SENDING)
        if connection.execute(update(delivery).where(interrupted).values(**values)).rowcount:
            attempts.end(connection, number, DeliveryState.WAITING, INTERRUPTED, time.time())


def retry(connection: Connection, numbers: Sequence[int], now: float, *, release_guard: bool) -> None:
    """Open refused, deferred or held deliveries again, for the instances that did not arrive."""
    for number in numbers:
        values: dict[str, Any] = {
            "state": DeliveryState.WAITING,
            "due_at": now,
            "held": False,
            "first_attempt_at": None,
            "finished_at": None,
            "reason": "asked for by `retry`",
        }
        if release_guard:
            values["guard_released"] = True
        connection.execute(update(delivery).where(delivery.c.id == number).values(**values))
        connection.execute(
            update(receipt)
            .where(receipt.c.delivery == number, receipt.c.state == ReceiptState.REFUSED)
            .values(state=ReceiptState.PENDING, message="")
        )


def make_due(connection: Connection, destination_name: str, now: float) -> None:
    """Make every deferred delivery to a destination due, because it has just answered again."""
    connection.execute(
        update(delivery)
        .where(
            delivery.c.destination == destination_name,
            delivery.c.state == DeliveryState.DEFERRED,
            delivery.c.due_at > now,
        )
        .values(due_at=now)
    )


def set_destination(connection: Connection, name: str, **values: Any) -> None:
    """Write the state of a destination as a whole: paused, down since when, and why."""
    known = connection.scalar(select(destination.c.name).where(destination.c.name == name))
    if known is None:
        connection.execute(insert(destination).values(name=name))
    connection.execute(update(destination).where(destination.c.name == name).values(**values))


def try_soon(connection: Connection) -> None:
    """Let each destination that is down be tried at once."""
    connection.execute(update(destination).where(destination.c.down_since.is_not(None)).values(try_at=None))


def down_since(connection: Connection, name: str) -> float | None:
    """Return since when a destination as a whole has not answered, None if it answers."""
    return connection.scalar(select(destination.c.down_since).where(destination.c.name == name))


def paused(connection: Connection) -> set[str]:
    """Return the names of the destinations a person has paused."""
    return set(connection.scalars(select(destination.c.name).where(destination.c.paused)))


def batches(values: Sequence[Value], size: int = 500) -> Iterable[Sequence[Value]]:
    """Split a list into pieces that fit the bound parameters of a statement."""
    return (values[at : at + size] for at in range(0, len(values), size))
