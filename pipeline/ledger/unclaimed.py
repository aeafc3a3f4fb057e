"""The ledger's statements about unclaimed instances: nobody asked for them, or no destination gets them.

Programs read the code of such an instance; the reason beside it is for people.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Connection, bindparam, exists, select, update

from pipeline.ledger.batches import batches
from pipeline.ledger.tables import instance, receipt, retrieved
from pipeline.model import InstanceCode, InstanceState

REMARK = (
    "unclaimed"  # The reason of such an instance, and the remark of an arrival of which nothing goes anywhere.
)
PARTLY = "partly unclaimed"  # The remark of an arrival of which other instances go somewhere.
COLUMNS = {
    "state": InstanceState.PASSED,
    "reason": REMARK,
    "code": InstanceCode.UNCLAIMED,
    "consigned": True,
}  # What the ledger keeps of an unclaimed instance.


def claim(connection: Connection, identities: Sequence[int]) -> None:
    """Take code and reason from those of these instances that were unclaimed: they go somewhere now."""
    for batch in batches(identities):
        _claim(connection, instance.c.id.in_(batch))


def claim_retrieved(connection: Connection, retrieval_number: int) -> None:
    """Take code and reason from the unclaimed instances that a retrieval has: an order uses them now."""
    of_it = select(retrieved.c.instance).where(retrieved.c.retrieval == retrieval_number)
    _claim(connection, instance.c.id.in_(of_it))


def _claim(connection: Connection, those: ColumnElement[bool]) -> None:
    unclaimed = those & (instance.c.code == InstanceCode.UNCLAIMED)
    connection.execute(update(instance).where(unclaimed).values(reason=None, code=None))


def remark_of(connection: Connection, arrival_name: str) -> str | None:
    """Return the remark of an arrival with unclaimed instances, None if it has none."""
    if not connection.scalar(_HAS_UNCLAIMED, {"arrival": arrival_name}):
        return None
    of_it = instance.c.arrival == arrival_name
    sent = select(receipt.c.instance).join(instance, instance.c.id == receipt.c.instance).where(of_it)
    return PARTLY if connection.scalar(select(exists(sent))) else REMARK


_HAS_UNCLAIMED = select(
    exists(
        select(instance.c.id).where(
            instance.c.arrival == bindparam("arrival"), instance.c.code == InstanceCode.UNCLAIMED
        )
    )
)


def code_in(entry: Mapping[str, Any]) -> str | None:
    """Return the code of an instance in an account; earlier releases wrote only the reason of an unclaimed one."""
    code: str | None = entry.get("code")
    return InstanceCode.UNCLAIMED if code is None and entry["reason"] == REMARK else code
