"""Take the instances of an earlier image out of it, byte for byte, for a new image of the whole study."""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.media.contents import IsoContents
from pipeline.media.errors import NotAsWritten
from pipeline.media.model import Source
from pipeline.media.shelf import OnShelf
from pipeline.model import InstanceKey


def taken_out(image: Path, instances: Mapping[InstanceKey, OnShelf], folder: Path) -> Iterator[Source]:
    """Write the instances to `folder` and yield them; raises NotAsWritten where one is not what was put there."""
    contents = IsoContents(image)
    try:
        for number, (key, one) in enumerate(instances.items()):
            target = folder / f"{number:06d}"
            digest = hashlib.sha256()
            with target.open("wb") as file:
                for piece in contents.pieces(one.path):
                    file.write(piece)
                    digest.update(piece)
            if digest.hexdigest() != one.sha256:
                raise NotAsWritten("an earlier image no longer holds what was read back from it")
            yield Source(target, key, one.sha256, one.source_sha256, one.decoded_from)
    finally:
        contents.close()
