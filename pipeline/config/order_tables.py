"""[pacs], [shim] and [patients]: whom orders ask, who may place them, who knows the patient (docs/design.md)."""

from datetime import timedelta
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from pipeline.config.keys import AETitle, Duration, Host, HostAsSaid, Name, Port, Table
from pipeline.config.paths import AbsolutePath
from pipeline.dicom.accession import LONGEST, LONGEST_OF_THE_STANDARD

TITLES = (  # before and behind names, in the languages of the pages
    *("DR", "DRA", "PROF", "MR", "MRS", "MS", "MISS"),
    *("SR", "SRA", "SRTA", "DOÑA"),
    *("TN", "NY", "SDR", "SDRI"),
)


class SenderTable(Table):
    """[pacs] senders: another address, or AE title, that what the PACS sends comes from."""

    address: Host | None = None
    ae_title: AETitle | None = None

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if self.address is None and self.ae_title is None:
            raise ValueError('name an address, as { address = "10.0.0.9", ae_title = "PACS2" }')
        return self


class PacsTable(Table):
    """[pacs]: the archive that is asked by accession number; `receiver` is where it sends to."""

    ae_title: AETitle
    host: Host
    port: Port
    calling_ae_title: AETitle
    receiver: Name
    retrieve: Literal["move", "get"] = "move"
    moves_at_once: Annotated[int, Field(ge=1, le=16)] = (
        2  # 1 where the receiver is in study mode, whatever is said
    )
    connect_timeout: Duration = timedelta(seconds=10)
    answer_timeout: Duration = timedelta(seconds=60)  # for each answer to a query
    senders: tuple[SenderTable, ...] = ()  # from where it sends besides `host`
    identity: Literal["strict", "patient-id"] = "strict"  # what of the images must agree with the PACS's answers
    accession_number_length: Annotated[int, Field(ge=LONGEST_OF_THE_STANDARD, le=LONGEST)] = LONGEST


class ShimTable(Table):
    """[shim]: HTTP for the HIS and the pages for people; the limits hold for orders of every origin."""

    host: Host = "127.0.0.1"
    port: Port = 8090
    api_key: str = ""
    operator_key: str = ""  # of the persons who may decide; proxies add api_key for everybody, so it is another
    public_without_key: bool = False
    download: Name | None = None  # which destination each kind of link means
    print: Name | None = None
    forward: tuple[Name, ...] = ()
    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = 8
    move_timeout: Duration = timedelta(seconds=300)  # without a new instance
    order_timeout: Duration = timedelta(hours=1)
    same_link: Duration = timedelta(minutes=10)
    max_accessions: Annotated[int, Field(ge=1, le=1000)] = 20
    allowed_origins: tuple[str, ...] = ()
    hosts: tuple[HostAsSaid, ...] = ()  # the names we are asked by; empty: Host is not looked at

    @property
    def destinations(self) -> dict[str, tuple[str, ...]]:
        """Return the destinations each key names."""
        named = {"download": (self.download,), "print": (self.print,), "forward": self.forward}
        return {key: tuple(name for name in names if name) for key, names in named.items()}


class PatientQueryTable(Table):
    """[[patients.query]]: one SELECT in one database, with the bound parameter :accession_number.

    Columns are named as the answer names them; what an earlier query returned may be bound by later ones.
    """

    url: str  # SQLAlchemy's, without a password
    select: str
    password_env: str | None = None
    password_file: AbsolutePath | None = None


class PatientsTable(Table):
    """[patients]: who knows what a patient is called: the retrieved study, an API of the HIS, or databases."""

    kind: Literal["dicom", "api", "sql"] = "dicom"
    url: str = ""
    timeout: Duration = timedelta(seconds=10)
    answer_timeout: Duration | None = None  # for all of an answer; where it is not set, `timeout`
    slow_after: Duration = timedelta(seconds=3)  # then a warning is logged
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    key_env: str | None = None  # the environment variable, or the file, that holds the key of the API
    key_file: AbsolutePath | None = None
    key_header: Literal["Authorization", "X-API-Key"] = "Authorization"  # Authorization: Bearer <key>
    query: tuple[PatientQueryTable, ...] = ()
    patient_id: Literal["same", "other"] = (
        "same"  # "other": medrec_id is no Patient ID, and the name alone decides
    )
    titles: tuple[str, ...] = TITLES  # words of a name that count as not written, in any case

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.kind == "api" and not self.url.startswith(("http://", "https://")):
            raise ValueError('kind = "api" needs url, as in https://his.example.org')
        if self.kind == "sql" and not self.query:
            raise ValueError('kind = "sql" needs [[patients.query]] with url and select')
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("write one of key_env and key_file")
        return self
