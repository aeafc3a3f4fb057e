"""[[fleet]]: other sites whose state this one shows (docs/fleet.md)."""

from datetime import timedelta
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from pipeline.config.keys import AbsolutePath, Duration, Name, Table

_Wait = Annotated[Duration, Field(gt=timedelta(0), le=timedelta(seconds=60))]


def _address(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not text.isprintable() or " " in text:
        raise ValueError("write an address as https://gateway.north.example")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("write the address without user, question mark and #; the key stands in key_file")
    return text.rstrip("/")


Address = Annotated[str, AfterValidator(_address)]


class FleetSiteTable(Table):
    """[[fleet]]: one other site, asked for its state every half minute."""

    name: Name
    """Name of the site on our pages. Example: `"north"`"""
    url: Address
    """Where its `storestow serve` answers; /api/status below it is asked.
    Example: `"https://gateway.north.example"`"""
    page: Address | None = None
    """Address of its page for persons; default: /operator below `url`.
    Example: `"https://pacs.north.example/storestow/operator"`"""
    key_env: str | None = None
    """Environment variable that holds the site's `[shim] status_key`. Example: `"STORESTOW_NORTH_KEY"`"""
    key_file: AbsolutePath | None = None
    """File that holds it, readable by its owner alone. Example: `"/etc/storestow/north.key"`"""
    ca_bundle: AbsolutePath | None = None
    """Certificates of the authority that signs the site's; the system's where it is not written.
    Example: `"/etc/storestow/north-ca.crt"`"""
    connect_timeout: _Wait = timedelta(seconds=5)
    """How long to wait for a connection."""
    answer_timeout: _Wait = timedelta(seconds=10)
    """How long the whole answer may take."""

    @model_validator(mode="after")
    def _has_one_key(self) -> Self:
        if (self.key_env is None) == (self.key_file is None):
            raise ValueError("write one of key_env and key_file: the site's [shim] status_key")
        return self

    @property
    def operator_page(self) -> str:
        """Return the address of the site's page for persons."""
        return self.page or f"{self.url}/operator"
