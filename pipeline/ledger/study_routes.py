"""The ledger's statements about where the instances of a study go: decided once, and what now goes along."""

from collections.abc import Mapping

from sqlalchemy import Connection, bindparam, func, select, text, update

from pipeline.ledger.instance_rows import sound_instances
from pipeline.ledger.rows import SoundInstanceRow, read_all
from pipeline.ledger.scope import LINE
from pipeline.ledger.tables import arrival, delivery, instance, receipt
from pipeline.model import InstanceState

Decided = tuple[tuple[str, str], ...]  # Destination and encoding, for each destination of an instance.


def decide(connection: Connection, decided: Mapping[int, Decided]) -> None:
    """Write where instances go, by row number, so that a restart with another configuration does not change it."""
    rows = [{"row_number": identity, "ways": ways} for identity, ways in decided.items()]
    if rows:
        its_row = instance.c.id == bindparam("row_number")
        connection.execute(update(instance).where(its_row).values(routed_to=bindparam("ways")), rows)


def begun_before_routes(connection: Connection, receiver: str, study_instance_uid: str) -> Decided:
    """Return where a study goes of which a part was consigned before this was written down for the whole study.

    The growing deliveries of such a study hold only instances for which nothing is written down.
    """
    rows = connection.execute(_BEGUN_BEFORE, {"receiver": receiver, "study": study_instance_uid})
    return tuple({row[0]: (row[0], row[1]) for row in rows}.values())


_BEGUN_BEFORE = (
    select(delivery.c.destination, func.min(receipt.c.encoding))
    .join(receipt, receipt.c.delivery == delivery.c.id)
    .join(instance, instance.c.id == receipt.c.instance)
    .where(
        text("delivery.growing"),  # In the words of the index.
        delivery.c.receiver == bindparam("receiver"),
        delivery.c.study_instance_uid == bindparam("study"),
    )
    .group_by(delivery.c.id, delivery.c.destination)
    .having(func.count(instance.c.routed_to) == 0)
    .order_by(delivery.c.id)
)


def prepared(connection: Connection, receiver: str, study_instance_uid: str) -> list[SoundInstanceRow]:
    """Return the instances of a study that came in by this receiver of the line and are prepared already.

    What another receiver took in goes its own way.
    """
    wanted = sound_instances().where(
        instance.c.scope == LINE,
        instance.c.study_instance_uid == study_instance_uid,
        instance.c.state.in_((InstanceState.PASSED, InstanceState.ENCODED)),
        instance.c.discarded_at.is_(None),
        arrival.c.receiver == receiver,
    )
    return read_all(SoundInstanceRow, connection.execute(wanted.order_by(instance.c.id)))


def known_at(connection: Connection, study_instance_uid: str, destination: str) -> frozenset[int]:
    """Return the row numbers of the instances of a study that the line has consigned to a destination."""
    wanted = (
        select(receipt.c.instance)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(
            delivery.c.study_instance_uid == study_instance_uid,
            delivery.c.destination == destination,
            delivery.c.order_id.is_(None),
        )
    )
    return frozenset(connection.scalars(wanted))


def encoding_of(connection: Connection, number: int, identity: int) -> str | None:
    """Return the encoding in which a delivery brings an instance, None if it brings no such instance."""
    its_receipt = (receipt.c.delivery == number) & (receipt.c.instance == identity)
    encoding: str | None = connection.scalar(select(receipt.c.encoding).where(its_receipt))
    return encoding


def studies_of_last_arrivals(connection: Connection, most: int) -> list[tuple[str, str]]:
    """Return receiver and Study Instance UID of the studies in the last `most` arrivals, the newest first."""
    last = select(arrival.c.name, arrival.c.receiver, arrival.c.admitted_at)
    last_ones = last.order_by(arrival.c.admitted_at.desc()).limit(most).subquery()
    wanted = (
        select(last_ones.c.receiver, instance.c.study_instance_uid)
        .join(instance, instance.c.arrival == last_ones.c.name)
        .where(instance.c.scope == LINE, instance.c.study_instance_uid.is_not(None))
        .order_by(last_ones.c.admitted_at.desc(), instance.c.id)
    )
    return list(dict.fromkeys((row[0], row[1]) for row in connection.execute(wanted)))


def ways_taken(connection: Connection, receiver: str, study_instance_uid: str) -> dict[int, dict[str, str]]:
    """Return, by row number, to which destinations the line has consigned instances, each with the encoding."""
    wanted = (
        select(receipt.c.instance, delivery.c.destination, receipt.c.encoding)
        .join(delivery, delivery.c.id == receipt.c.delivery)
        .where(
            delivery.c.receiver == receiver,
            delivery.c.study_instance_uid == study_instance_uid,
            delivery.c.order_id.is_(None),
        )
    )
    found: dict[int, dict[str, str]] = {}
    for row in connection.execute(wanted):
        found.setdefault(row.instance, {})[row.destination] = row.encoding
    return found
