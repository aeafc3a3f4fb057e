"""What tells one instance from every other, whatever file or transfer syntax it is in: its UID and its pixels."""

import hashlib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import pydicom
from pydicom.pixels import pixel_array


class Fingerprint(NamedTuple):
    """A SOP Instance UID and the hash of the decoded pixels; for no instance "" and the hash of all bytes."""

    uid: str
    pixels: str


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fingerprint(content: bytes) -> Fingerprint:
    try:
        data_set = pydicom.dcmread(io.BytesIO(content))
        return Fingerprint(str(data_set.SOPInstanceUID), sha256(pixel_array(data_set, raw=True).tobytes()))
    except Exception:  # garbage, or cut: it has no other name than its bytes
        return Fingerprint("", sha256(content))


def fingerprints(contents: Iterable[bytes]) -> set[Fingerprint]:
    return {fingerprint(content) for content in contents}


def of_files(files: Iterable[Path]) -> set[Fingerprint]:
    return fingerprints(file.read_bytes() for file in files)
