"""The values of site.toml as types, as durations ("7d") and sizes ("8 MiB"), that cannot be wrong."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
HOST = re.compile(r"[A-Za-z0-9.:_][A-Za-z0-9.:_-]{0,252}")
HOST_AS_SAID = re.compile(  # Host name and port as they stand in an address (RFC 3986, 3.2.2).
    r"([A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*\.?|\[[0-9A-Fa-f:.]+\])(?::([0-9]{1,5}))?"
)
AE_TITLE = re.compile(r"[\x21-\x5b\x5d-\x7e](?:[\x20-\x5b\x5d-\x7e]{0,14}[\x21-\x5b\x5d-\x7e])?")  # PS3.5 6.2, AE
DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|w)")
SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kKmMgG]i?[bB]|[bB])")
_SECONDS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_BYTES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


def parse_duration(text: object) -> timedelta:
    """Return the duration of a text such as "7d": a number and one of ms s m h d w.

    Otherwise raises ValueError.
    """
    if isinstance(text, timedelta):
        return text
    match = DURATION.fullmatch(str(text).strip())
    if not match:
        raise ValueError(f'"{text}" is no duration; write a number and a unit: "30s", "15m", "24h", "7d"')
    try:
        return timedelta(seconds=float(match[1]) * _SECONDS[match[2]])
    except OverflowError as error:
        raise ValueError(f'"{text}" is longer than this program can count') from error


def parse_size(text: object) -> int:
    """Return the bytes of a text such as "8 MiB"; otherwise raises ValueError, which lists the units."""
    if isinstance(text, int) and not isinstance(text, bool) and text > 0:
        return text
    match = SIZE.fullmatch(str(text).strip())
    if not match or not (size := int(float(match[1]) * _BYTES[match[2].lower()])):
        raise ValueError(f'"{text}" is no size; write a number and a unit: "512 kB", "8 MiB", "1 GiB"')
    return size


def _name(text: str) -> str:
    if not NAME.fullmatch(text):
        raise ValueError("a name is 1 to 32 of a-z 0-9 _ - and begins with a letter or digit")
    return text


def _ae_title(text: str) -> str:
    if not AE_TITLE.fullmatch(text):
        raise ValueError("an AE title is 1 to 16 printable ASCII characters, no backslash, no blank at either end")
    return text


def _uid(text: str) -> str:
    if len(text) > 64 or not re.fullmatch(r"[0-9]+(\.[0-9]+)+", text):  # PS3.5 9.1
        raise ValueError(f'"{text}" is no UID: digits and dots, at most 64 characters')
    return text


def _host(text: str) -> str:
    if not HOST.fullmatch(text):
        raise ValueError("a host is a name or an address, of A-Z a-z 0-9 . _ : - and begins with no dash")
    return text


def _host_as_said(text: str) -> str:
    if not HOST_AS_SAID.fullmatch(text):
        raise ValueError("write a host as it stands in an address: his.example.org, 10.0.0.5:8090 or [fd00::5]")
    return text


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("must be an absolute path")
    return path


Name = Annotated[str, AfterValidator(_name)]
Uid = Annotated[str, AfterValidator(_uid)]
AETitle = Annotated[str, AfterValidator(_ae_title)]
Host = Annotated[str, AfterValidator(_host)]  # The host stands in command lines of other programs.
HostAsSaid = Annotated[str, AfterValidator(_host_as_said)]
# The folder a program starts in must not matter.
AbsolutePath = Annotated[Path, AfterValidator(_absolute)]
Port = Annotated[int, Field(ge=1, le=65535)]
Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "format": "duration", "pattern": f"^{DURATION.pattern}$"}),
]
Size = Annotated[
    int,
    BeforeValidator(parse_size),
    WithJsonSchema({"type": ["string", "integer"], "format": "size", "pattern": f"^{SIZE.pattern}$"}),
]


class Table(BaseModel):
    """A TOML table: frozen, and an unknown key is an error.

    The text below each key documents it: docs/configuration.md and docs/site.schema.json are made of these texts.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
