"""[pacs], [shim] and [patients]: whom orders query, who may place them, who knows the patient (docs/design.md)."""

from datetime import timedelta
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from pipeline.config.keys import AbsolutePath, AETitle, Duration, Host, HostAsSaid, Name, Port, Table
from pipeline.dicom.accession import LONGEST, LONGEST_OF_THE_STANDARD

TITLES = (  # Words before and behind names, in the languages of the pages.
    *("DR", "DRA", "PROF", "MR", "MRS", "MS", "MISS"),
    *("SR", "SRA", "SRTA", "DOÑA"),
    *("TN", "NY", "SDR", "SDRI"),
)


def _page_address(address: str) -> str:
    """Return the address of a page; raises ValueError unless it is empty, or one of http or https with a host."""
    parts = urlsplit(address)
    if address and (parts.scheme not in {"http", "https"} or not parts.hostname or not address.isprintable()):
        raise ValueError('write the address of a page, as "https://his.example.org/worklist"')
    return address


class SenderTable(Table):
    """[pacs] senders: another address, or AE title, from which instances of the PACS come."""

    address: Host | None = None
    """Host name or address. Example: `"10.0.0.9"`"""
    ae_title: AETitle | None = None
    """Calling AE title. Example: `"PACS2"`"""

    @model_validator(mode="after")
    def _names_somebody(self) -> Self:
        if self.address is None and self.ae_title is None:
            raise ValueError('name an address, as { address = "10.0.0.9", ae_title = "PACS2" }')
        return self


class PacsTable(Table):
    """[pacs]: the archive that is queried by accession number; it sends to the receiver `receiver`."""

    ae_title: AETitle
    """AE title of the PACS. Example: `"ABPACS"`"""
    host: Host
    """Its host name or address. Example: `"pacs.example.org"`"""
    port: Port
    """Its TCP port. Example: `11112`"""
    calling_ae_title: AETitle
    """The AE title we call it with, which the PACS must know. Example: `"CDRECORD"`"""
    receiver: Name
    """Name of the receiver it sends to; that receiver's `ae_title` is the move destination.
    Example: `"cdrecord"`"""
    retrieve: Literal["move", "get"] = "move"
    """C-MOVE, for which the PACS must know our AE title, host and port; or C-GET over our own association."""
    moves_at_once: Annotated[int, Field(ge=1, le=16)] = 2
    """Retrievals at once; always 1 where the receiver is in study mode."""
    connect_timeout: Duration = timedelta(seconds=10)
    """How long to wait for a connection."""
    answer_timeout: Duration = timedelta(seconds=60)
    """How long to wait for each answer to a query."""
    senders: tuple[SenderTable, ...] = ()
    """Addresses or AE titles the PACS sends from, besides `host`.
    Example: `[{ address = "10.0.0.9", ae_title = "PACS2" }]`"""
    identity: Literal["strict", "patient-id"] = "strict"
    """Which patient attributes of the images must agree with the PACS's answers; see orders.md."""
    accession_number_length: Annotated[int, Field(ge=LONGEST_OF_THE_STANDARD, le=LONGEST)] = LONGEST
    """Most characters of an accession number we ask for; DICOM allows 16."""


class ShimTable(Table):
    """[shim]: HTTP for the HIS and pages for people; the limits hold for orders of every origin."""

    host: Host = "127.0.0.1"
    """Address to listen at; another than the loopback one needs `api_key`."""
    port: Port = 8090
    """TCP port."""
    api_key: str = ""
    """Key of the links; empty is allowed at a loopback address only. The environment variable STORESTOW_API_KEY
    wins over it. Example: `"4f1c..."`"""
    operator_key: str = ""
    """Key of the persons who may decide; it must differ from `api_key`, which a proxy adds for everybody.
    Example: `"a93e..."`"""
    metrics_key: str = ""
    """Key that opens `/metrics` and nothing else; STORESTOW_METRICS_KEY in the environment wins over it.
    Example: `"77b0..."`"""
    status_key: str = ""
    """Key that opens `/api/status` and nothing else, for the site that shows a fleet; without one there is no such
    address. STORESTOW_STATUS_KEY in the environment wins over it. Example: `"c51d..."`"""
    public_without_key: bool = False
    """Whether anybody who reaches the port may order, although there is no key."""
    download: Name | None = None
    """Destination of download links, of kind "iso"; default: the only one of that kind, if no receiver, route or
    `forward` names it. Without one they answer 501. Example: `"disc"`"""
    print: Name | None = None
    """Destination of print links, not of kind "iso"; default: the only one of kind "cstore", if no receiver, route
    or `forward` names it. Without one they answer 501. Example: `"publisher"`"""
    forward: tuple[Name, ...] = ()
    """Destinations a forward link may name, the first where it names none; without any they answer 501.
    Example: `["second_pacs"]`"""
    max_concurrent: Annotated[int, Field(ge=1, le=1000)] = 8
    """Orders that may be open at once; one more is answered 503."""
    move_timeout: Duration = timedelta(seconds=300)
    """How long a retrieval may go on without a new instance."""
    order_timeout: Duration = timedelta(hours=1)
    """How long an order may take in all."""
    same_link: Duration = timedelta(minutes=10)
    """How long after its end an order serves the same link again."""
    max_accessions: Annotated[int, Field(ge=1, le=1000)] = 20
    """Accession numbers in one order."""
    allowed_origins: tuple[str, ...] = ()
    """Origins whose pages may call us from a browser (CORS). Example: `["https://his.example.org"]`"""
    back_to: Annotated[str, AfterValidator(_page_address)] = ""
    """Address of the page of the HIS to which our pages lead back; a browser with JavaScript goes back to where it
    came from. Example: `"https://his.example.org/worklist"`"""
    hosts: tuple[HostAsSaid, ...] = ()
    """Names we are asked by; where it is empty the header Host is not looked at. Example: `["his.example.org"]`"""

    @property
    def destinations(self) -> dict[str, tuple[str, ...]]:
        """Return the destinations that each key names; `Settings.link_destinations` has the defaults too."""
        named = {"download": (self.download,), "print": (self.print,), "forward": self.forward}
        return {key: tuple(name for name in names if name) for key, names in named.items()}


class PatientQueryTable(Table):
    """[[patients.query]]: one SELECT in one database, with the bound parameter :accession_number.

    Columns have the names of the answer's fields; later queries may bind what earlier ones returned.
    """

    url: str
    """SQLAlchemy's address of the database, without a password. Example: `"mysql+pymysql://reader@his/ris"`"""
    select: str
    """The statement. Example: `"SELECT name AS patient_name FROM patient WHERE acc = :accession_number"`"""
    password_env: str | None = None
    """Environment variable that holds the password. Example: `"HIS_PASSWORD"`"""
    password_file: AbsolutePath | None = None
    """File that holds the password, readable by its owner alone. Example: `"/etc/storestow/his.password"`"""


class PatientsTable(Table):
    """[patients]: who knows a patient's name: the retrieved study, an API of the HIS, or databases."""

    kind: Literal["dicom", "api", "sql"] = "dicom"
    """Who is asked: nobody but the retrieved study, an API of the HIS, or databases."""
    url: str = ""
    """Address of the API, for "api". Example: `"https://his.example.org"`"""
    timeout: Duration = timedelta(seconds=10)
    """How long to wait for a connection, and for the next bytes of an answer."""
    answer_timeout: Duration | None = None
    """How long a whole answer may take; `timeout` where it is not written. Example: `"20s"`"""
    slow_after: Duration = timedelta(seconds=3)
    """How long an answer may take before a warning is logged."""
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    """How many more times to ask when there is no answer."""
    key_env: str | None = None
    """Environment variable that holds the key of the API. Example: `"HIS_KEY"`"""
    key_file: AbsolutePath | None = None
    """File that holds the key of the API, readable by its owner alone. Example: `"/etc/storestow/his.key"`"""
    key_header: Literal["Authorization", "X-API-Key"] = "Authorization"
    """Header that carries the key; "Authorization" says `Bearer` before it."""
    query: tuple[PatientQueryTable, ...] = ()
    """Statements for "sql", one after the other; see the table below.
    Example: `[{ url = "sqlite:////srv/ris.db", select = "SELECT n FROM p WHERE a = :accession_number" }]`"""
    patient_id: Literal["same", "other"] = "same"
    """Whether the HIS's medrec_id is the Patient ID of the images; with "other" the name alone decides."""
    titles: tuple[str, ...] = TITLES
    """Words of a name that count as not written, in any case."""

    @model_validator(mode="after")
    def _can_be_asked(self) -> Self:
        if self.kind == "api" and not self.url.startswith(("http://", "https://")):
            raise ValueError('kind = "api" needs url, as in https://his.example.org')
        if self.kind == "sql" and not self.query:
            raise ValueError('kind = "sql" needs [[patients.query]] with url and select')
        if self.key_env is not None and self.key_file is not None:
            raise ValueError("write one of key_env and key_file")
        return self
