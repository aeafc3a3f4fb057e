"""Whose an instance, or an answer, says it is: read for comparisons, never written to the ledger or a log."""

import unicodedata
from dataclasses import dataclass

from pipeline.dicom import part10
from pipeline.dicom.attributes.character_sets import CharacterSet
from pipeline.dicom.part10 import Bytes, DataSetLayout

SPECIFIC_CHARACTER_SET, NAME, ID, ISSUER, BIRTH_DATE = 0x00080005, 0x00100010, 0x00100020, 0x00100021, 0x00100030


@dataclass(frozen=True, slots=True, repr=False)
class Patient:
    """What identifies a patient, each part as it is written but for padding, empty where it is not told.

    A birth date has no separators, and is empty where it is nothing but zeros. Whether two are one person is
    `same_patient`'s to say.
    """

    identifier: str = ""
    issuer: str = ""
    birth_date: str = ""
    name: str = ""

    @classmethod
    def of(cls, identifier: str, issuer: str, birth_date: str, name: str) -> "Patient":
        """Return a patient of these texts, which may be padded and written as machines write them."""
        date = birth_date.strip(" \0").replace(".", "").replace("-", "")  # as before DICOM 3.0, or as ISO 8601
        return cls(_plain(identifier), _plain(issuer), date if date.strip("0") else "", _plain(name).strip("^= "))

    @classmethod
    def read(
        cls, identifier: bytes, issuer: bytes, birth_date: bytes, name: bytes, character_set: str
    ) -> "Patient":
        """Return the patient of these raw values; `character_set` is Specific Character Set as it is declared."""
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


def _plain(text: str) -> str:
    return unicodedata.normalize("NFC", text).strip(" \0\t\r\n")
