"""kind = "null": send nothing, for a dry run; every receipt says that nothing was sent."""

from collections.abc import Iterator
from typing import Literal

from pipeline.destinations import Destination
from pipeline.model import Consignment, Receipt, ReceiptState


class NullDestination(Destination):
    """Accept everything and keep nothing."""

    kind: Literal["null"]

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Yield a receipt for every item; nothing is stored anywhere, and the message says so."""
        for item in consignment.items:
            yield Receipt(item.key, ReceiptState.STORED, "null", "nothing was sent", verified=True)


DESTINATION = NullDestination
