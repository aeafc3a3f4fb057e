"""Read files of a finished medium: the hash of each, and the identity of the objects among them.

This module imports little, and no pydicom, because its processes must start at once.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.disc.errors import NotAsWritten
from pipeline.disc.formats.independent_reader import NoIdentity, ObjectIdentity, claims_in
from pipeline.disc.formats.iso9660 import IsoFile, pieces_of


@dataclass(frozen=True, slots=True)
class HashTask:
    """The image, and the files in it that one process reads."""

    image: Path
    files: tuple[IsoFile, ...]


@dataclass(frozen=True, slots=True)
class FileDigest:
    """Size and SHA-256 of one file; `claims` is the identity of an object (a file below DICOM/), else None."""

    path: str
    size: int
    sha256: str
    claims: ObjectIdentity | None


def looks(task: HashTask) -> list[FileDigest]:
    """Return the digest of each file; raises NotAsWritten if an object cannot be read as DICOM."""
    with task.image.open("rb") as image:
        return [look(file.path, pieces_of(image, file)) for file in task.files]


def look(path: str, pieces: Iterable[bytes]) -> FileDigest:
    """Return the digest of one file from its bytes; raises NotAsWritten if an object cannot be read as DICOM."""
    passing = Passing(pieces)
    try:
        claims = claims_in(passing) if path.startswith("DICOM/") else None
    except NoIdentity as reason:
        raise NotAsWritten(f"what was written cannot be read back: {reason}") from reason
    return FileDigest(path, passing.size, passing.sha256(), claims)


class Passing:
    """Hash and count the pieces of a file while another function reads them."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._digest = hashlib.sha256()
        self.size = 0

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        piece = next(self._pieces)
        self._digest.update(piece)
        self.size += len(piece)
        return piece

    def sha256(self) -> str:
        """Return the SHA-256 of the whole file, after reading the rest."""
        for _ in self:
            pass
        return self._digest.hexdigest()
