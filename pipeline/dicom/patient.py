"""Read which patient an instance or an answer names. The values serve comparisons; no ledger or log gets them."""

import re
import unicodedata
from dataclasses import dataclass

from pipeline.dicom import part10
from pipeline.dicom.attributes.character_sets import CharacterSet
from pipeline.dicom.part10 import Bytes, DataSetLayout

SPECIFIC_CHARACTER_SET, NAME, ID, ISSUER, BIRTH_DATE = 0x00080005, 0x00100010, 0x00100020, 0x00100021, 0x00100030


@dataclass(frozen=True, slots=True, repr=False)
class Patient:
    """What identifies a patient: each text is without padding, and empty if the source has no value.

    A birth date is YYYYMMDD if it can be read so in one way only; otherwise it is the text without padding. It is
    empty if it has no digit but zeros. `same_patient` decides whether two patients are one person.
    """

    identifier: str = ""
    issuer: str = ""
    birth_date: str = ""
    name: str = ""

    @classmethod
    def of(cls, identifier: str, issuer: str, birth_date: str, name: str) -> "Patient":
        """Return a patient from texts that may have padding and machine spellings."""
        return cls(_plain(identifier), _plain(issuer), _date(birth_date), _plain(name).strip("^= "))

    @classmethod
    def read(
        cls, identifier: bytes, issuer: bytes, birth_date: bytes, name: bytes, character_set: str
    ) -> "Patient":
        """Return the patient from raw values; `character_set` is the declared Specific Character Set."""
        declared = CharacterSet.of(character_set)
        return cls.of(
            declared.decode_anyhow(identifier, "LO"),
            declared.decode_anyhow(issuer, "LO"),
            birth_date.decode("latin-1"),
            declared.decode_anyhow(name, "PN"),
        )

    @property
    def is_known(self) -> bool:
        """Say whether there is anything to tell this patient from another."""
        return bool(self.identifier or self.name)


def patient_in(data: Bytes, layout: DataSetLayout) -> Patient:
    """Return the patient an instance names, in its own character set."""

    def raw(tag: int) -> bytes:
        element = layout.elements.get(tag)
        return bytes(data[element.value : element.end]) if element else b""

    words = part10.text_of(data, layout.elements.get(SPECIFIC_CHARACTER_SET))
    return Patient.read(raw(ID), raw(ISSUER), raw(BIRTH_DATE), raw(NAME), words)


_YEAR_FIRST = re.compile(r"(\d{4})([./-])(\d{1,2})\2(\d{1,2})(?:[T ].*)?")  # DICOM before 3.0, and ISO 8601.
_DAY_OR_MONTH_FIRST = re.compile(r"(\d{1,2})([./-])(\d{1,2})\2(\d{4})")
_WITH_TIME = re.compile(r"(\d{8})(?:T|\d{4}|\d{6})[\d.:+-]*")  # A date and time, as HL7 has it.
_LAST_MONTH = 12


def _date(text: str) -> str:
    """Return a date as YYYYMMDD if there is one way to read it, otherwise unchanged; "" if all digits are 0."""
    plain = text.strip(" \0\t\r\n\"'-")
    if not re.search("[1-9]", plain):
        return ""
    if match := _YEAR_FIRST.fullmatch(plain):
        return f"{match[1]}{match[3]:>02}{match[4]:>02}"
    if match := _WITH_TIME.fullmatch(plain):
        return match[1]
    if match := _DAY_OR_MONTH_FIRST.fullmatch(plain):
        a, b = int(match[1]), int(match[3])
        if a == b or max(a, b) > _LAST_MONTH >= min(a, b):
            return f"{match[4]}{min(a, b):02}{max(a, b):02}"
    days = set(plain.split("-"))
    return days.pop() if len(days) == 1 else plain


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip(" \0\t\r\n")
