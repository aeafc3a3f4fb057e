"""kind = "cstore": send to a CD publisher or another PACS by C-STORE (docs/adr/0007-cstore.md)."""

from collections.abc import Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.certificates import client_context
from pipeline.config.keys import AbsolutePath, AETitle, Duration, Host, Port, Table
from pipeline.destinations import START_OR_CORRECT, Destination
from pipeline.dicom import encodings
from pipeline.errors import Configuration, PeerUnavailable, StorestowError
from pipeline.model import Consignment, Receipt

if TYPE_CHECKING:
    from pipeline.cstore.pdu_connection import Peer
    from pipeline.cstore.tls_handshake import TlsIdentity

# One storage class for each frequent kind of image; a peer seldom treats classes of one kind differently.
ASKED_FOR = {
    "1.2.840.10008.5.1.4.1.1.2": "CT",
    "1.2.840.10008.5.1.4.1.1.4": "MR",
    "1.2.840.10008.5.1.4.1.1.1": "CR",
    "1.2.840.10008.5.1.4.1.1.1.1": "DX",
    "1.2.840.10008.5.1.4.1.1.6.1": "US",
    "1.2.840.10008.5.1.4.1.1.7": "secondary captures",
}
Seconds = Annotated[Duration, Field(gt=timedelta(0))]


class CStoreTlsTable(Table):
    """tls: PEM files; `ca` signs the peer's certificate, which bears `server_name`, or what `host` says."""

    ca: AbsolutePath
    """Certificates of the authority that signs the peer's. Example: `"/etc/storestow/pacs-ca.crt"`"""
    cert: AbsolutePath | None = None
    """Our certificate, where the peer wants one. Example: `"/etc/storestow/storestow.crt"`"""
    key: AbsolutePath | None = None
    """Its private key, readable by its owner alone. Example: `"/etc/storestow/storestow.key"`"""
    server_name: Host | None = None
    """The name in the peer's certificate; `host` where it is not written. Example: `"pacs.example.org"`"""

    @model_validator(mode="after")
    def _has_both_or_neither(self) -> Self:
        if (self.cert is None) != (self.key is None):
            raise ValueError("write both cert and key, or neither of them")
        return self


class CStoreDestination(Destination):
    """Send to the AE title `ae_title` at `host` by C-STORE, and believe its status for each instance."""

    kind: Literal["cstore"]
    ae_title: AETitle
    """AE title of the peer. Example: `"ANY-SCP"`"""
    host: Host
    """Its host name or address. Example: `"publisher.example.org"`"""
    port: Port
    """Its TCP port. Example: `104`"""
    calling_ae_title: AETitle
    """The AE title we call it with. Example: `"CDRECORD"`"""
    connect_timeout: Seconds = timedelta(seconds=10)
    """How long to wait for a connection."""
    associate_timeout: Seconds = timedelta(seconds=30)
    """How long to wait for the answer to our association request."""
    response_timeout: Seconds = timedelta(seconds=60)
    """How long to wait for the answer to each instance."""
    max_pdu: Annotated[int, Field(ge=4096, le=131072)] = 131072
    """Largest PDU we send, in bytes, where the peer takes so much."""
    tls: CStoreTlsTable | None = None
    """Certificates; with them only TLS is spoken. Example: `{ ca = "/etc/storestow/pacs-ca.crt" }`"""

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Send every item and yield the peer's status; see `Destination.deliver` for what it raises.

        An instance without an answer is sent again with the same bytes, because a C-STORE peer cannot be asked.
        """
        from pipeline.cstore.send_instances import StorageScu

        yield from StorageScu(self._peer(), consignment.attempt).send(consignment.items)

    def problems(self) -> Iterator[str]:
        """Send a C-ECHO, in TLS if configured, and yield the problems."""
        from pipeline.cstore.requestor import echo

        try:
            status = echo(self._peer()).status
        except Configuration:
            raise
        except PeerUnavailable as error:
            yield f"destination {self.name}: {error}; {START_OR_CORRECT}"
            return
        except StorestowError as error:
            yield f"destination {self.name}: {error}"
            return
        if status:
            yield f"destination {self.name}: {self.ae_title} answers a C-ECHO with status 0x{status:04X}"

    def notes(self) -> Iterator[str]:
        """Yield which kinds of image the peer accepts as `encode` makes them; others are sent decoded again."""
        from pipeline.cstore.requestor import takes

        syntax = encodings.transfer_syntax_of(self.encode)
        if syntax is None:
            return
        name = encodings.transfer_syntax_name(syntax)
        try:
            taken = takes(self._peer(), list(ASKED_FOR), syntax)
        except StorestowError as error:
            yield f'encode = "{self.encode}": whether it takes {name} is not known: {error}'
            return
        if refused := [words for uid, words in ASKED_FOR.items() if uid not in taken]:
            yield (
                f'encode = "{self.encode}": it does not take {name} ({", ".join(refused)}): '
                "those leave decoded again, and encoding them gains nothing"
            )
        else:
            yield f'encode = "{self.encode}": it takes {name}'

    def _peer(self) -> "Peer":
        from pipeline.cstore.pdu_connection import Peer

        return Peer(
            host=self.host,
            port=self.port,
            ae_title=self.ae_title,
            calling_ae_title=self.calling_ae_title,
            connect_seconds=self.connect_timeout.total_seconds(),
            associate_seconds=self.associate_timeout.total_seconds(),
            response_seconds=self.response_timeout.total_seconds(),
            max_pdu=self.max_pdu,
            encryption=self._encryption(),
        )

    def _encryption(self) -> "TlsIdentity | None":
        """Return the TLS settings, None without TLS; a renewed certificate is read for the next delivery."""
        from pipeline.cstore.tls_handshake import TlsIdentity

        if self.tls is None:
            return None
        own = (self.tls.cert, self.tls.key) if self.tls.cert and self.tls.key else None
        context = client_context("tls", self.tls.ca, own)
        return TlsIdentity(context, self.tls.server_name or self.host, own is not None)


DESTINATION = CStoreDestination
