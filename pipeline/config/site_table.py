"""[site] and [[coercion]]: settings of the whole site, which rules and certificates read.

`coercions/site_rules.py` finds the mistakes in [[coercion]], because it needs the dictionary of attributes, and a
receiver only reads the table.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from pipeline.config.keys import AbsolutePath, Duration, Table, parse_size
from pipeline.dicom.placeholders import PLACEHOLDERS

SHELL_SAFE_PATH = re.compile(r"[A-Za-z0-9._/+-]+")  # storescp replaces #-placeholders in our own paths, too.


def _space(text: Any) -> int:
    return 0 if str(text) == "0" else parse_size(text)


Space = Annotated[int, BeforeValidator(_space), WithJsonSchema({"type": ["string", "integer"], "format": "size"})]


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("write a name of one line, without control characters")
    return text.strip()


Language = Literal["en", "es", "id"]


class SiteTable(Table):
    """[site]: settings of the whole site."""

    spool: Path
    """Folder where everything lies until it is delivered: absolute, on a local disk, and its path holds only
    A-Z a-z 0-9 . _ / + - because storescp hands it to a shell. Example: `"/var/spool/storestow"`"""
    ledger: str = ""
    """Where everything known of instances, deliveries and orders is kept: empty for a file in the spool, or the
    address of a PostgreSQL database of its own, without a password; see scale.md.
    Example: `"postgresql://storestow@db1,db2/storestow?target_session_attrs=read-write"`"""
    ledger_password_file: AbsolutePath | None = None
    """File that holds the database's password, readable by its owner alone.
    Example: `"/etc/storestow/ledger.password"`"""
    keep_originals: Duration = timedelta(days=7)
    """How long received files stay after their study is settled. What was refused, quarantined or is in conflict
    stays until a person decides."""
    keep_results: Duration = timedelta(hours=24)
    """How long discs made for orders, and the studies retrieved for them, stay."""
    keep_accounts: Duration = timedelta(days=400)
    """How long the ledger remembers instances whose files are deleted, and orders that have ended. Then their
    accounts go to a yearly archive, which `storestow trace --archived` reads, and the same instance is new."""
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    """Processes that coerce and encode; 0 takes one for each core."""
    give_up_after: Duration = timedelta(days=7)
    """How long a delivery that fails for a passing reason is tried again before it is refused."""
    gather_at_most: Duration = timedelta(minutes=15)
    """The longest time a study waits for more of its instances, counted from its first one."""
    institution_mapping: Path | None = None
    """File that says which Institution Name belongs to which sender: JSON, or opendicom's .plist; a relative path
    starts beside site.toml. Without it Institution Name stays as received.
    Example: `"institution_mapping.json"`"""
    unknown_institution: Literal["keep", "quarantine"] = "keep"
    """What becomes of instances whose sender the mapping does not know, at receivers that coerce."""
    default_coercions: Literal["empty", "always", "off"] = "empty"
    """Whether the shipped rules fill empty attributes, replace any value, or are off; see coercion.md."""
    alarm_below: Space = 5 << 30
    """Free bytes of the spool's disk below which an alarm is logged; 0 means never."""
    refuse_below: Space = 1 << 30
    """Free bytes of the spool's disk below which receivers accept nothing more; 0 means never."""
    show_names: bool = False
    """Whether the operator's page shows the patient of a study, and names before and after coercion."""
    language: Language = "en"
    """Language of the pages for readers whose browser asks for none of these: English, Spanish or Indonesian."""
    disc_languages: Annotated[tuple[Language, ...], Field(min_length=1)] = ("en", "es")
    """Languages of README.TXT and INDEX.HTM on discs, in this order. Example: `["id", "en"]`"""
    name: Annotated[str, AfterValidator(_one_line), Field(max_length=64)] = ""
    """The hospital's name on pages and discs. Example: `"Example Hospital"`"""
    logo: Path | None = None
    """Its logo on pages and discs: a .png or plain .svg file of 256 KiB at most; a relative path starts beside
    site.toml. Example: `"logo.svg"`"""
    placeholder_ids: tuple[str, ...] = PLACEHOLDERS
    """Patient IDs that do not tell persons apart; "0" stands for every ID of zeros only."""

    @field_validator("spool")
    @classmethod
    def _spool_is_safe_in_a_hook_command(cls, spool: Path) -> Path:
        if not spool.is_absolute():
            raise ValueError("the spool must be an absolute path")
        if not SHELL_SAFE_PATH.fullmatch(str(spool)):
            raise ValueError(
                "the spool's path may hold only A-Z a-z 0-9 . _ / + - (storescp hands it to a shell); "
                "choose another folder"
            )
        return spool

    @field_validator("disc_languages")
    @classmethod
    def _names_each_language_once(cls, named: tuple[Language, ...]) -> tuple[Language, ...]:
        if len(set(named)) < len(named):
            raise ValueError("it names a language twice")
        return named

    @field_validator("ledger")
    @classmethod
    def _ledger_is_an_address_without_a_password(cls, ledger: str) -> str:
        if not ledger:
            return ledger
        address = urlsplit(ledger)
        if address.scheme not in {"postgresql", "postgres"} or not address.path.strip("/"):
            raise ValueError("the ledger must be an address as postgresql://USER@HOST/DATABASE, or empty")
        if address.password is not None or "password" in parse_qs(address.query):
            raise ValueError("no password in the ledger's address: write it into ledger_password_file")
        return ledger

    @model_validator(mode="after")
    def _password_is_for_a_server(self) -> Self:
        if self.ledger_password_file and not self.ledger:
            raise ValueError("ledger_password_file without ledger: the ledger is a file, which has no password")
        return self

    @model_validator(mode="after")
    def _alarm_comes_before_refusal(self) -> Self:
        if self.alarm_below and self.alarm_below < self.refuse_below:
            raise ValueError("alarm_below must not be less than refuse_below: the alarm comes first")
        return self


class CoercionTable(Table):
    """One rule of the site, a table [[coercion]]; it is applied after the shipped rules (docs/design.md)."""

    set: dict[str, str] = Field(default_factory=dict)
    """Attributes by keyword, each with the text it gets. Example: `{ ReferringPhysicianName = "-^-^-^-" }`"""
    remove: tuple[str, ...] = ()
    """Attributes to remove: keyword, ggggeeee, or "gggg,CREATOR,ee".
    Example: `["RequestingServiceCodeSequence"]`"""
    when: Literal["empty", "always"] = "always"
    """Whether `set` replaces any value, or only one that is absent or empty."""
    calling_ae_title: str | None = None
    """Only what this AE title sent: a shell pattern, upper and lower case differ. Example: `"CT*"`"""
    peer: str | None = None
    """Only what came from this address: a shell pattern; study mode knows no addresses. Example: `"10.1.2.*"`"""
    receiver: str | None = None
    """Only what came in by the receiver of this name: a shell pattern. Example: `"modalities"`"""
    modality: str | None = None
    """Only instances of this Modality (0008,0060): a shell pattern. Example: `"CT"`"""


class SiteConfiguration(Protocol):
    """The part of a configuration that coercion rules and certificates read."""

    @property
    def site(self) -> SiteTable:
        """Return the table [site]."""

    @property
    def coercion(self) -> tuple[CoercionTable, ...]:
        """Return the tables [[coercion]]."""

    def beside(self, path: Path) -> Path:
        """Return `path`; a relative one is taken from the folder of the configuration file."""
