"""Look at files of a finished medium: what each hashes to, and what the objects among them claim to be.

Imports little, and no pydicom: it runs in processes that are to start at once.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pipeline.media.claims import Claims, NoClaims, claims_of
from pipeline.media.errors import NotAsWritten
from pipeline.media.iso9660 import File, pieces_of


@dataclass(frozen=True, slots=True)
class Task:
    """Files of an image."""

    image: Path
    files: tuple[File, ...]


@dataclass(frozen=True, slots=True)
class Look:
    """One file as it was found; `claims` is None where it is none of the objects, which are below DICOM/."""

    path: str
    size: int
    sha256: str
    claims: Claims | None


def looks(task: Task) -> list[Look]:
    """Return what each file is; raises NotAsWritten where one cannot be read."""
    with task.image.open("rb") as image:
        return [look(file.path, pieces_of(image, file)) for file in task.files]


def look(path: str, pieces: Iterable[bytes]) -> Look:
    """Return what one file is, of which `pieces` are the bytes in order; raises NotAsWritten."""
    digest, size, claims = hashlib.sha256(), 0, None
    for piece in pieces:
        if not size and path.startswith("DICOM/"):
            claims = _claims(piece)
        digest.update(piece)
        size += len(piece)
    return Look(path, size, digest.hexdigest(), claims)


def _claims(head: bytes) -> Claims:
    try:
        return claims_of(head)
    except NoClaims as reason:
        raise NotAsWritten(f"what was written cannot be read back: {reason}") from reason
