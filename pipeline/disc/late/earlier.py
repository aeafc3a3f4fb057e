"""Take the instances of an earlier image out of it, byte for byte, for a new image of the whole study."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from pipeline.disc.errors import NotAsWritten
from pipeline.disc.formats.contents import IsoContents
from pipeline.disc.late.remembered import OnShelf
from pipeline.disc.model import Source
from pipeline.model import InstanceKey


def taken_out(images: Sequence[Path], instances: Mapping[InstanceKey, OnShelf], folder: Path) -> Iterator[Source]:
    """Write the instances to `folder` and yield them; `images` are of all discs of the set in order, or one.

    Raises NotAsWritten where an instance is not what was put there.
    """
    number = 0
    for disc, image in enumerate(images, 1):
        with contextlib.closing(IsoContents(image)) as contents:
            for key, one in instances.items():
                if one.disc == disc:
                    number += 1
                    target = folder / f"{number:06d}"
                    _take_out(contents, one, target)
                    yield Source(target, key, one.sha256, one.source_sha256, one.decoded_from)


def _take_out(contents: IsoContents, one: OnShelf, target: Path) -> None:
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for piece in contents.pieces(one.path):
            file.write(piece)
            digest.update(piece)
    if digest.hexdigest() != one.sha256:
        raise NotAsWritten("an earlier image no longer holds what was read back from it")
