"""Whose images these are: compared in memory, never written to the ledger or a log.

Two answers are of one patient when the IDs are equal and nothing else speaks against it. An issuer or a
birth date that is missing says nothing; one that differs does. Without an ID the name must do.
"""

import unicodedata
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from pydicom.charset import convert_encodings, decode_bytes
from pydicom.valuerep import PN_DELIMS

from pipeline.dicom import part10
from pipeline.dicom.part10 import Bytes, Layout

SPECIFIC_CHARACTER_SET, NAME, ID, ISSUER, BIRTH_DATE = 0x00080005, 0x00100010, 0x00100020, 0x00100021, 0x00100030


@dataclass(frozen=True, slots=True, order=True)
class Patient:
    """What identifies a patient, each part without padding and case, empty where it is not known."""

    identifier: str = ""
    issuer: str = ""
    birth_date: str = ""
    name: str = ""

    @property
    def is_known(self) -> bool:
        """Say whether there is anything to tell this patient from another."""
        return bool(self.identifier or self.name)

    def may_be(self, other: "Patient") -> bool:
        """Say whether nothing tells the two apart; of somebody unknown nothing is known."""
        if not (self.is_known and other.is_known):
            return False
        if self.identifier and other.identifier:
            is_same = self.identifier == other.identifier
        else:
            is_same = self.name == other.name
        return is_same and _agree(self.issuer, other.issuer) and _agree(self.birth_date, other.birth_date)


def _agree(one: str, other: str) -> bool:
    return not (one and other) or one == other


def are_one(patients: Iterable[Patient]) -> bool:
    """Tell whether all of these may be one patient, each with each."""
    return all(one.may_be(other) for one, other in combinations(set(patients), 2))


def patient_in(data: Bytes, layout: Layout) -> Patient:
    """Return the patient an instance names, in its own character set."""
    words = part10.text_of(data, layout.elements.get(SPECIFIC_CHARACTER_SET)).split("\\")

    def text(tag: int) -> str:
        element = layout.elements.get(tag)
        return _decoded(bytes(data[element.value : element.end]), words) if element else ""

    return _patient(text(ID), text(ISSUER), text(BIRTH_DATE), text(NAME))


def _patient(identifier: str, issuer: str, birth_date: str, name: str) -> Patient:
    return Patient(_plain(identifier), _plain(issuer), birth_date.strip(" \0").replace(".", ""), _plain(name))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip(" \0^=").casefold()


def _decoded(raw: bytes, character_sets: list[str]) -> str:
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return decode_bytes(raw, convert_encodings(character_sets), PN_DELIMS)
        except (ValueError, LookupError):
            return raw.decode("latin-1")
