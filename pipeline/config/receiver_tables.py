"""[[receiver]]: one storescp door, and who may come in by it (docs/design.md, Configuration)."""

from datetime import timedelta
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

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


Peers = Annotated[tuple[Annotated[IPv4Network | IPv6Network, BeforeValidator(_network)], ...], Field(min_length=1)]
Titles = Annotated[tuple[Annotated[str, AfterValidator(_ae_title_pattern)], ...], Field(min_length=1)]
Timeout = Annotated[Duration, AfterValidator(_timeout)]
Bound = Annotated[int, Field(ge=1, le=1000)]


class ReceiverTlsTable(Table):
    """[[receiver]] tls: PEM files, relative to the configuration file; `ca` signs the peers' certificates."""

    cert: Path
    key: Path
    ca: Path | None = None
    require_client_certificate: bool = True

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
    """[[receiver]]: one storescp door. An allow-list that is not there allows everybody."""

    name: Name
    ae_title: AETitle
    port: Port
    mode: Literal["study", "association", "external"] = "study"
    hook: Literal["study-complete", "process-study"] = "study-complete"  # `process-study`: no worker need run
    bind: str = "0.0.0.0"  # noqa: S104  # a modality calls from outside; storescp listens on all addresses anyway
    quiet_seconds: Annotated[int, Field(ge=1, le=3600)] = 10
    max_pdu: Annotated[int, Field(ge=4096, le=131072)] = 131072
    coerce: bool = True
    require_patient: bool = True  # an instance without Patient's Name or Patient ID is set aside
    more_sop_classes: Annotated[tuple[Uid, ...], Field(max_length=127)] = ()  # and Verification make 128 contexts
    to: tuple[Name, ...] = ()
    max_associations: Bound = 64
    max_associations_per_peer: Bound = 32
    allow_peers: Peers | None = None
    allow_calling_ae_titles: Titles | None = None  # shell patterns (fnmatch), matched case-sensitively
    allow_called_ae_titles: Titles | None = None
    idle_timeout: Timeout = timedelta(minutes=5)
    association_timeout: Timeout | None = None
    tls: ReceiverTlsTable | None = None

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
