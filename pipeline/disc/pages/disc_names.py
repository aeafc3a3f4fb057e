"""The names of discs: what stands in the volume descriptor, and what a file is called."""

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from datetime import datetime

from pipeline.disc.model import DiscPatient, StudyOnDisc

LONGEST_PART = 64  # of one value in a file name: the longest accession number
LONGEST = 120  # of a file name without its suffix: some file systems and mail programs take no more
FIELDS = ("accession", "patient_name", "study_instance_uid", "date")
_LETTERS = str.maketrans(
    {"ß": "ss", "Æ": "AE", "æ": "ae", "Ø": "O", "ø": "o", "Ł": "L", "ł": "l", "Đ": "D", "đ": "d"}
)


def volume_id(study_date: str, hashes: Iterable[str]) -> str:
    """Return the volume identifier, which is the File-set ID too: the study's date and a trace of the content.

    At most 16 of A-Z 0-9 _ (CS, and PS3.12 F); no word of the patient. The same objects give the same one.
    """
    digest = hashlib.sha256("\n".join(sorted(hashes)).encode()).hexdigest().upper()
    return f"{study_date}_{digest[:7]}" if re.fullmatch(r"[0-9]{8}", study_date) else f"DICOM_{digest[:10]}"


def ascii_part(text: str) -> str:
    """Return ASCII letters and digits of `text`, accents taken off, everything else gone; capped, maybe empty."""
    plain = unicodedata.normalize("NFKD", text.translate(_LETTERS))
    return re.sub(r"[^A-Za-z0-9]", "", plain)[:LONGEST_PART]


def patient_part(name: str) -> str:
    """Return a person name for a file name: the first component group that has ASCII letters, else PATIENT."""
    return next((part for group in name.split("=") if (part := ascii_part(group))), "PATIENT")


def download_name(accession_number: str, suffix: str = "iso") -> str:
    """Return the file name of one accession's disc, `{ACCESSION}.iso`; never empty, no character but ASCII."""
    return f"{ascii_part(accession_number) or 'DISC'}.{suffix}"


def download_name_of_several(patient_name: str, accession_numbers: Sequence[str], suffix: str = "iso") -> str:
    """Return the file name of several accessions' disc, `{PATIENT_NAME}-{ACCESSIONS}.iso`, capped."""
    parts = [part for number in accession_numbers if (part := ascii_part(number))]
    stem = "-".join((patient_part(patient_name), *(parts or ["DISC"])))
    return f"{stem[:LONGEST].rstrip('-')}.{suffix}"


def unknown_fields(pattern: str) -> list[str]:
    """Return what stands in braces in a `file_name` and is none of FIELDS; a stray brace counts, too."""
    rest = re.sub("|".join(f"{{{field}}}" for field in FIELDS), "", pattern)
    return re.findall(r"\{[^}]*\}?|\}", rest)


def file_stem(pattern: str, patient: DiscPatient, studies: Sequence[StudyOnDisc], made_at: datetime) -> str:
    """Return the file name a `file_name` pattern means, without suffix: safe everywhere, capped, never empty."""
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
