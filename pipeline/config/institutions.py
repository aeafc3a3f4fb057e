"""Which institution a sender belongs to: the site's mapping, as JSON or as opendicom's property list."""

import ipaddress
import json
import plistlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from pipeline.dicom.attributes.texts import mistake
from pipeline.errors import Configuration

_WANTED = 'write {"<AE title, IP or receiver>": "<name>"}'


@dataclass(frozen=True, slots=True)
class Institutions:
    """The mapping from calling AE title, IP address or receiver name to Institution Name."""

    file: str = ""
    names: tuple[tuple[str, str], ...] = ()

    def of(self, calling_ae_title: str, peer: str | None, receiver: str) -> str | None:
        """Return the institution of a sender, looked up by these three in order; None if the mapping has none."""
        names = dict(self.names)
        for key in (calling_ae_title.strip(), _address(peer or ""), receiver):
            if key and key in names:
                return names[key]
        return None


def read(path: Path) -> Institutions:
    """Read `path`: a property list if its name ends in .plist, otherwise JSON.

    Raises:
        Configuration: it cannot be read, or an entry is wrong, such as a name that Institution Name cannot
            hold, or a key given twice. One line for each mistake, with the file and the key.
    """
    pairs = _property_list(path) if path.suffix == ".plist" else _json(path)
    mistakes = [f"{path}: {found}" for found in _mistakes(pairs)]
    if mistakes:
        raise Configuration("\n".join(mistakes))
    return Institutions(str(path), tuple(sorted((_key(key), name.strip()) for key, name in pairs)))


def line_to_paste(calling_ae_title: str, peer: str | None, receiver: str) -> str:
    """Return the line an operator can add to the JSON mapping for this sender."""
    key = calling_ae_title.strip() or peer or receiver
    return f'{json.dumps(key)}: "<InstitutionName>"'


def _json(path: Path) -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []

    def keep_pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found  # The outermost object comes last; a dictionary would hide a key given twice.
        return dict(found)

    try:
        table = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=keep_pairs)
    except OSError as error:
        raise _unreadable(path, error) from error
    except ValueError as error:
        raise Configuration(f"{path}: the institution mapping is not JSON ({error}): {_WANTED}") from error
    if not isinstance(table, dict):
        raise Configuration(f"{path}: the mapping must be one object: {_WANTED}")
    return pairs


def _unreadable(path: Path, error: OSError) -> Configuration:
    return Configuration(
        f"{path}: the institution mapping cannot be read: {error.strerror}; correct [site] institution_mapping, "
        "or let the user storestow runs as read the file"
    )


def _property_list(path: Path) -> list[tuple[str, Any]]:
    try:
        table = plistlib.loads(path.read_bytes())
    except OSError as error:
        raise _unreadable(path, error) from error
    except (ValueError, ExpatError, plistlib.InvalidFileException) as error:
        raise Configuration(f"{path}: the institution mapping is not a property list: {error}") from error
    if not isinstance(table, Mapping):
        raise Configuration(f"{path}: the property list must be a dictionary of strings")
    return list(table.items())


def _mistakes(pairs: list[tuple[str, Any]]) -> list[str]:
    found = [
        f'the key "{key}" is given {n} times' for key, n in Counter(_key(k) for k, _ in pairs).items() if n > 1
    ]
    for key, name in pairs:
        if not _key(key):
            found.append("a key is empty; it must be a calling AE title, an IP address or a receiver's name")
        elif not isinstance(name, str):
            found.append(f'"{key}": the institution must be a text')
        elif not name.strip():
            found.append(f'"{key}": the institution is empty; remove the line to keep what the modality says')
        elif wrong := mistake("LO", name.strip(), "1"):
            found.append(f'"{key}": {wrong} (InstitutionName, VR LO)')
    return found


def _key(key: object) -> str:
    return _address(str(key).strip())


def _address(text: str) -> str:
    """Return an IP address in canonical form, an IPv4 peer of an IPv6 socket as IPv4; other text unchanged."""
    try:
        address = ipaddress.ip_address(text.strip())
    except ValueError:
        return text.strip()
    return str(getattr(address, "ipv4_mapped", None) or address)
