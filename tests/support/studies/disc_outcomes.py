"""What a disc holds and leaves out, and why one is refused."""

import hashlib
from pathlib import Path

import pytest
from support.studies.discs import a_disc

from pipeline.disc.model import Disc


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def reasons(disc: Disc) -> list[tuple[str, str]]:
    return [(one.source.name, one.reason) for one in disc.left_out]


def refused(tmp_path: Path, kind: type[Exception], *paths: Path, **changed: object) -> str:
    with pytest.raises(kind) as refusal:
        a_disc(tmp_path, *paths, **changed)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    return str(refusal.value)
