"""The names of discs: the volume identifier, and file names."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

from pipeline.disc.model import DiscPatient, StudyOnDisc

LONGEST_PART = 64  # Characters of one value in a file name: the longest accession number.
LONGEST = 120  # Characters of a file name without suffix: some file systems and mail programs accept no more.
FIELDS = ("accession", "patient_name", "study_instance_uid", "date")
_LETTERS = str.maketrans(
    {"ß": "ss", "Æ": "AE", "æ": "ae", "Ø": "O", "ø": "o", "Ł": "L", "ł": "l", "Đ": "D", "đ": "d"}
)


def volume_id(study_date: str, hashes: Iterable[str]) -> str:
    """Return the volume identifier, also the File-set ID: the study's date and a hash of the content.

    It has at most 16 characters of A-Z 0-9 _ (CS, and PS3.12 F), and no patient data. Equal objects give an equal
    identifier.
    """
    digest = hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest().upper()
    return f"{study_date}_{digest[:7]}" if re.fullmatch(r"[0-9]{8}", study_date) else f"DICOM_{digest[:10]}"


def ascii_part(text: str) -> str:
    """Return the ASCII letters and digits of `text`, with accents and all other characters removed.

    The result has at most LONGEST_PART characters, and may be empty.
    """
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return re.sub(r"[^A-Za-z0-9]", "", plain)[:LONGEST_PART]


def patient_part(name: str) -> str:
    """Return a person name for a file name: the first component group with ASCII letters, otherwise PATIENT."""
    return next((part for group in name.split("=") if (part := ascii_part(group))), "PATIENT")


def download_name_of_several(patient_name: str, accession_numbers: Sequence[str], suffix: str = "iso") -> str:
    """Return the file name for a disc of several accession numbers, `{PATIENT_NAME}-{ACCESSIONS}.iso`.

    The name without suffix has at most LONGEST characters.
    """
    parts = [part for number in accession_numbers if (part := ascii_part(number))]
    stem = "-".join((patient_part(patient_name), *(parts or ["DISC"])))
    return f"{stem[:LONGEST].rstrip('-')}.{suffix}"


def unknown_fields(pattern: str) -> list[str]:
    """Return the words in braces in a `file_name` that are not in FIELDS, and every unpaired brace."""
    rest = re.sub("|".join(f"{{{field}}}" for field in FIELDS), "", pattern)
    return re.findall(r"\{[^}]*\}?|\}", rest)


def file_stem(pattern: str, patient: DiscPatient, studies: Sequence[StudyOnDisc], made_at: datetime) -> str:
    """Return the file name for a `file_name` pattern, without suffix: 1 to LONGEST of A-Z a-z 0-9 . _ -."""
    values = {
        "accession": "-".join(part for study in studies if (part := ascii_part(study.accession_number))),
        "patient_name": patient_part(patient.name),
        "study_instance_uid": studies[0].study_instance_uid,
        "date": made_at.strftime("%Y%m%d"),
    }
    stem = pattern
    for field, value in values.items():
        stem = stem.replace(f"{{{field}}}", value)
    stem = re.sub(r"[^A-Za-z0-9._-]", "_", stem).strip("._-")[:LONGEST]
    return stem or f"DISC-{hashlib.sha256(studies[0].study_instance_uid.encode()).hexdigest()[:10]}"
