"""[[receiver]]: a storescp port, and who may open associations there (docs/design.md, Configuration)."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from pipeline.config.keys import AETitle, Duration, Name, Port, Table, Uid

LONGEST_TIMEOUT = timedelta(days=1)


def _network(value: Any) -> IPv4Network | IPv6Network:
    try:
        return ip_network(str(value))
    except ValueError as error:
        raise ValueError(f"{error}; write an address, or a network as 192.0.2.0/24") from error


def _ae_title_pattern(text: str) -> str:
    if not 1 <= len(text) <= 64 or not text.isascii() or not text.isprintable():
        raise ValueError("write AE titles, or shell patterns of them as CT*, in printable ASCII")
    return text


def _timeout(duration: timedelta) -> timedelta:
    if not timedelta(seconds=1) <= duration <= LONGEST_TIMEOUT:
        raise ValueError("write a time from 1s to 24h")
    return duration


Network = Annotated[
    IPv4Network | IPv6Network,
    BeforeValidator(_network),
    WithJsonSchema({"type": "string", "format": "address or network"}),
]
Peers = Annotated[tuple[Network, ...], Field(min_length=1)]
Titles = Annotated[tuple[Annotated[str, AfterValidator(_ae_title_pattern)], ...], Field(min_length=1)]
Timeout = Annotated[Duration, AfterValidator(_timeout)]
Bound = Annotated[int, Field(ge=1, le=1000)]


class ReceiverTlsTable(Table):
    """[[receiver]] tls: PEM files, relative to the configuration file; `ca` signs the peers' certificates."""

    cert: Path
    """Our certificate, with the chain up to its authority. Example: `"receiver.crt"`"""
    key: Path
    """Its private key, without a passphrase, readable by its owner alone. Example: `"receiver.key"`"""
    ca: Path | None = None
    """Certificates of the authority that signs those of the peers. Example: `"modalities-ca.crt"`"""
    require_client_certificate: bool = True
    """Whether a peer has to show a certificate; then `ca` is needed."""

    @model_validator(mode="after")
    def _knows_whose_certificates_to_trust(self) -> Self:
        if self.require_client_certificate and self.ca is None:
            raise ValueError(
                "name the ca that signs the peers' certificates, or require_client_certificate = false"
            )
        return self


ONLY_IN_ASSOCIATION_MODE = frozenset(
    {
        *("max_associations", "max_associations_per_peer", "allow_peers"),
        *("allow_calling_ae_titles", "allow_called_ae_titles", "idle_timeout", "association_timeout"),
    }
)


class ReceiverTable(Table):
    """[[receiver]]: one storescp port. Without an allow-list every peer is allowed."""

    name: Name
    """What this receiver is called here: a-z 0-9 _ - up to 32. Example: `"modalities"`"""
    ae_title: AETitle
    """The AE title under which modalities know it. Example: `"STORESTOW"`"""
    port: Port
    """TCP port; one below 1024 needs `mode = "association"`. Example: `11112`"""
    mode: Literal["study", "association", "external"] = "study"
    """One permanent storescp, one for each association, or one that somebody else runs; see modes.md."""
    hook: Literal["study-complete", "process-study"] = "study-complete"
    """Which hook an external storescp calls; "process-study" needs no worker that runs all the time."""
    bind: str = "0.0.0.0"  # noqa: S104  # a modality calls from outside; storescp listens on all addresses anyway
    """Address to listen at; in association mode only."""
    quiet_seconds: Annotated[int, Field(ge=1, le=3600)] = 10
    """Seconds without a new instance after which a study counts as complete."""
    max_pdu: Annotated[int, Field(ge=4096, le=131072)] = 131072
    """Largest PDU we receive, in bytes."""
    coerce: bool = True
    """Whether rules may change what arrives here. False for the receiver of orders."""
    require_patient: bool = True
    """Whether an instance without Patient's Name or Patient ID is set aside."""
    # With Verification these are 128 contexts.
    more_sop_classes: Annotated[tuple[Uid, ...], Field(max_length=127)] = ()
    """Storage SOP Classes accepted in study mode besides the shipped list; association mode takes all.
    Example: `["1.2.840.10008.5.1.4.1.1.481.23"]`"""
    to: tuple[Name, ...] = ()
    """Names of the destinations. Where it is empty, what arrives is kept and sent nowhere.
    Example: `["archive"]`"""
    max_associations: Bound = 64
    """Associations at once, from all peers; in association mode only."""
    max_associations_per_peer: Bound = 32
    """Associations at once from one address; in association mode only."""
    allow_peers: Peers | None = None
    """Addresses or networks that may call; everybody where it is not written; in association mode only.
    Example: `["10.1.2.0/24", "192.0.2.17"]`"""
    allow_calling_ae_titles: Titles | None = None
    """AE titles that may call: shell patterns, upper and lower case differ; in association mode only.
    Example: `["CT*", "MR1"]`"""
    allow_called_ae_titles: Titles | None = None
    """AE titles by which we may be called, besides no other; in association mode only. Example: `["STORESTOW"]`"""
    idle_timeout: Timeout = timedelta(minutes=5)
    """How long a peer may say nothing before its association is ended; 1s to 24h; in association mode only."""
    association_timeout: Timeout | None = None
    """The longest an association may take; without end where it is not written; in association mode only.
    Example: `"4h"`"""
    tls: ReceiverTlsTable | None = None
    """Certificates; with them only TLS is spoken at this port.
    Example: `{ cert = "receiver.crt", key = "receiver.key", ca = "modalities-ca.crt" }`"""

    @model_validator(mode="after")
    def _promises_what_its_mode_can_keep(self) -> Self:
        unfit = sorted(ONLY_IN_ASSOCIATION_MODE & self.model_fields_set)
        if self.mode == "external" and (unfit or self.tls):
            raise ValueError(
                f"{', '.join(unfit) or 'tls'}: the storescp of an external receiver is run by somebody else, who "
                'alone can say so; or write mode = "association"'
            )
        if self.hook == "process-study" and self.mode != "external":
            raise ValueError('hook = "process-study" is for mode = "external"; elsewhere a worker has to run')
        if self.mode == "study" and unfit:
            raise ValueError(
                f"{', '.join(unfit)}: storescp in study mode serves one association after the other and lets "
                'everybody in; write mode = "association", which can do this, or leave it to a firewall'
            )
        return self
