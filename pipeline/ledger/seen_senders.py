"""Who has sent to a receiver, and which of its instances storescp misread."""

from typing import Any

from sqlalchemy import Connection, Select, func, select

from pipeline.ledger.tables import arrival, instance
from pipeline.model import InstanceCode


def since(connection: Connection, receiver: str, moment: float) -> int:
    """Return how many calling AE titles have sent to the receiver since `moment` (seconds since the epoch)."""
    titles = _received(receiver, moment).with_only_columns(func.count(instance.c.calling_ae_title.distinct()))
    return int(connection.execute(titles).scalar_one())


def instances(connection: Connection, receiver: str, moment: float) -> dict[tuple[str, str | None], int]:
    """Count the instances received since `moment`, by the sender's AE title and address."""
    who = (instance.c.calling_ae_title, arrival.c.peer)
    counted = _received(receiver, moment).with_only_columns(*who, func.count()).group_by(*who)
    return {(ae_title, peer): count for ae_title, peer, count in connection.execute(counted)}


def misread(connection: Connection, receiver: str, moment: float) -> int:
    """Return how many instances were set aside since then because storescp dropped or misread an element."""
    aside = _received(receiver, moment).where(instance.c.code == InstanceCode.MISREAD)
    return int(connection.execute(aside.with_only_columns(func.count())).scalar_one())


def _received(receiver: str, moment: float) -> Select[Any]:
    joined = instance.join(arrival, instance.c.arrival == arrival.c.name)
    since_then = arrival.c.admitted_at >= moment
    return select(instance.c.id).select_from(joined).where(arrival.c.receiver == receiver, since_then)
