"""The ledger's statements about deliveries: consign, claim, finish, resume, retry."""

import time
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Integer, Select, and_, bindparam, func, insert, not_, or_, select, update

from pipeline.ledger import attempts, nodes, tallies
from pipeline.ledger.claims import Claimant
from pipeline.ledger.receipts import needs_an_answer
from pipeline.ledger.rows import ClaimedDeliveryRow, DeliveryRow, read_one, read_one_or_none
from pipeline.ledger.tables import delivery, receipt
from pipeline.model import DeliveryState, ReceiptState
from pipeline.schedule import LONGEST_WAIT

OPEN = (DeliveryState.WAITING, DeliveryState.DEFERRED)


INTERRUPTED = "interrupted while sending"


def consign(connection: Connection, values: Mapping[str, Any], pinned: Sequence[Mapping[str, Any]]) -> int:
    """Open a delivery with one pending receipt for each instance, pinned to the very file that will be sent."""
    made = connection.execute(_OPEN_DELIVERY, {"state": DeliveryState.WAITING, **values}).inserted_primary_key
    assert made is not None
    number: int = made[0]
    rows = [{"delivery": number, "state": ReceiptState.PENDING, **pin} for pin in pinned]
    connection.execute(_PIN, rows)
    return number


_OPEN_DELIVERY, _PIN = insert(delivery), insert(receipt)


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
    is_limited = at_most is not None and not one_a_study
    wanted = _due_to(takes_parts=takes_parts, is_limited=is_limited)
    values = {"destination": destination_name, "now": now, "back": now + LONGEST_WAIT, "at_most": at_most}
    busy = _studies_in_hand(connection, destination_name) if one_a_study else set()
    found = []
    for number, order, study in connection.execute(wanted, values):
        if order is None and study in busy:
            continue
        if order is None and one_a_study:
            busy.add(study)
        found.append(number)
    return found


@cache
def _due_to(*, takes_parts: bool, is_limited: bool) -> Select[Any]:
    """Return the statement of `due`, made once: to make it takes longer than to execute it."""
    wanted = (
        select(delivery.c.id, delivery.c.order_id, delivery.c.study_instance_uid)
        .where(
            _IS_OPEN_TO,
            or_(
                delivery.c.due_at <= bindparam("now"),
                delivery.c.due_at > bindparam("back"),  # The clock was set back.
            ),
        )
        .order_by(delivery.c.order_id.is_(None), delivery.c.created_at, delivery.c.id)
    )
    if not takes_parts:
        wanted = wanted.where(not_(delivery.c.growing))
    return wanted.limit(bindparam("at_most", type_=Integer)) if is_limited else wanted


def _studies_in_hand(connection: Connection, destination_name: str) -> set[str]:
    return set(connection.scalars(_STUDIES_IN_HAND, {"destination": destination_name}))


_IS_IN_HAND = and_(delivery.c.destination == bindparam("destination"), delivery.c.state == DeliveryState.SENDING)
_STUDIES_IN_HAND = select(delivery.c.study_instance_uid).where(_IS_IN_HAND, delivery.c.order_id.is_(None))

_IS_OPEN_TO = and_(
    delivery.c.destination == bindparam("destination"), delivery.c.state.in_(OPEN), delivery.c.held.is_(False)
)
_NEXT_DUE = select(func.min(delivery.c.due_at)).where(_IS_OPEN_TO, delivery.c.due_at > bindparam("now"))


def next_due(connection: Connection, destination_name: str, now: float) -> float | None:
    """Return when the next delivery to a destination becomes due, None if there is none."""
    moment: float | None = connection.scalar(_NEXT_DUE, {"destination": destination_name, "now": now})
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
    `one_a_study` if one of them is of the same study, with `only_for_orders` if it is of no order, and if the
    worker's node is draining.
    """
    which = {"number": number, "claimant": by.worker}
    row = read_one_or_none(DeliveryRow, connection.execute(_FREE, which))
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
    connection.execute(_CLAIM, {**which, "now": now, "state": DeliveryState.SENDING, **by.values()})
    claimed = read_one(ClaimedDeliveryRow, connection.execute(_BY_NUMBER, {"number": number}))
    attempts.begin(connection, number, claimed.attempts, by.node, now)
    return claimed


_BY_NUMBER = select(delivery).where(delivery.c.id == bindparam("number"))
_IS_FREE = and_(
    delivery.c.id == bindparam("number"),
    delivery.c.state.in_(OPEN),
    delivery.c.held.is_(False),
    not_(nodes.drains(bindparam("claimant"))),
)
_FREE = select(delivery).where(_IS_FREE)
_CLAIM = (
    update(delivery)
    .where(_IS_FREE)
    .values(
        attempts=delivery.c.attempts + 1,
        first_attempt_at=func.coalesce(delivery.c.first_attempt_at, bindparam("now")),
    )
)


def in_hand(connection: Connection, destination_name: str, *, except_of: str | None = None) -> int:
    """Count the deliveries that are being attempted at a destination, those of the worker `except_of` left out."""
    values = {"destination": destination_name}
    if except_of is None:
        return connection.scalar(_IN_HAND, values) or 0
    return connection.scalar(_IN_HAND_OF_OTHERS, {**values, "claimant": except_of}) or 0


_IN_HAND = select(func.count()).where(_IS_IN_HAND)
_IN_HAND_OF_OTHERS = _IN_HAND.where(delivery.c.worker != bindparam("claimant"))


def is_in_hand(connection: Connection, number: int | None) -> bool:
    """Tell whether a delivery is being attempted."""
    return connection.scalar(select(delivery.c.state).where(delivery.c.id == number)) == DeliveryState.SENDING


def finish(connection: Connection, number: int, state: DeliveryState, reason: str | None, **more: Any) -> None:
    """Move a delivery to `state`; a refused one refuses instances without an answer."""
    values = {"state": state, "reason": reason, "claim": None, **more}
    connection.execute(_CHANGE, {"number": number, **values})
    if state == DeliveryState.REFUSED:
        connection.execute(
            update(receipt)
            .where(receipt.c.delivery == number, needs_an_answer())
            .values(state=ReceiptState.REFUSED, message=reason or "")
        )
    now = more.get("finished_at") or time.time()
    attempts.end(connection, number, state, reason, now)
    tallies.delivery_changed(connection, number, state, now)


_CHANGE = update(delivery).where(delivery.c.id == bindparam("number"))


def made(connection: Connection, number: int, path: Path, size: int) -> None:
    """Record the file a delivery has made for a person to fetch; the last one counts."""
    values = {"made_path": str(path), "made_size": size}
    connection.execute(update(delivery).where(delivery.c.id == number).values(**values))


# Releases before the column of the worker had one worker only.
_SENDING = select(delivery.c.id, delivery.c.worker).where(delivery.c.state == DeliveryState.SENDING)


def sending(connection: Connection, worker: str | None = None) -> set[int]:
    """Return the deliveries that a worker is, or was, attempting; only those of `worker`, if it is named."""
    return {row[0] for row in connection.execute(_SENDING) if worker is None or row[1] in {None, worker}}


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
