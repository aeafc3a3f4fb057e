"""kind = "cstore": a CD publisher or another PACS, instance by instance by C-STORE (docs/adr/0007-cstore.md)."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from pipeline.destinations import Destination
from pipeline.errors import StorestowError
from pipeline.keys import AETitle, Host, Port
from pipeline.model import Consignment, Receipt
from pipeline.storage.association import echo
from pipeline.storage.connection import Peer
from pipeline.storage.relay import Relay
from pipeline.units import parse_duration

Seconds = Annotated[timedelta, BeforeValidator(parse_duration), Field(gt=timedelta(0))]


class CStoreDestination(Destination):
    """Send to `ae_title` at `host`, and believe what it says of each instance."""

    kind: Literal["cstore"]
    ae_title: AETitle
    host: Host
    port: Port
    calling_ae_title: AETitle
    connect_timeout: Seconds = timedelta(seconds=10)
    associate_timeout: Seconds = timedelta(seconds=30)
    response_timeout: Seconds = timedelta(seconds=60)
    max_pdu: Annotated[int, Field(ge=4096, le=131072)] = 131072

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Send every item and yield the peer's status; see `Destination.deliver` for what it raises.

        What was attempted before without an answer is sent again, the same bytes: a C-STORE peer cannot be asked.
        """
        yield from Relay(self._peer(), consignment.attempt).send(consignment.items)

    def problems(self) -> Iterator[str]:
        """Ask for a C-ECHO and yield what is in the way."""
        try:
            status = echo(self._peer()).status
        except StorestowError as error:
            yield f"destination {self.name}: {error}"
            return
        if status:
            yield f"destination {self.name}: {self.ae_title} answers a C-ECHO with status 0x{status:04X}"

    def _peer(self) -> Peer:
        return Peer(
            host=self.host,
            port=self.port,
            ae_title=self.ae_title,
            calling_ae_title=self.calling_ae_title,
            connect_seconds=self.connect_timeout.total_seconds(),
            associate_seconds=self.associate_timeout.total_seconds(),
            response_seconds=self.response_timeout.total_seconds(),
            max_pdu=self.max_pdu,
        )


DESTINATION = CStoreDestination
