"""What is remembered of the latest image of a study, or of its latest set: pipeline.disc.late.shelf keeps it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.model import InstanceKey

_KINDS = dict.fromkeys(("stem", "disc", "volume_id", "sha256", "made_at"), str) | {
    "size": int,
    "is_offered": bool,
    "is_forgotten": bool,
    "instances": list,
    "refused": list,
}


@dataclass(frozen=True, slots=True)
class OnShelf:
    """One instance of the latest image, and of the file it was received in."""

    path: str
    sha256: str
    source_sha256: str
    decoded_from: str | None
    disc: int = 1  # of the set


@dataclass(frozen=True, slots=True)
class Image:
    """One image as a file: its name, where it is one of a set, and what it must be."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """The latest image of a study, which is called `stem`.iso or alike.

    `left_out` maps instances that are not on it to (SHA-256, reason). `is_offered` says that it has stood under
    its name for all to see; `is_forgotten` that only its name is remembered. Of a set, `name` is that of the
    folder in which its `discs` are; `discs` is empty where it is one image.
    """

    stem: str
    name: str
    volume_id: str
    sha256: str
    size: int
    made_at: str
    is_offered: bool
    is_forgotten: bool
    instances: Mapping[InstanceKey, OnShelf]
    left_out: Mapping[InstanceKey, tuple[str, str]]
    discs: tuple[Image, ...] = ()

    @property
    def is_set(self) -> bool:
        """Tell whether it is not one image but several."""
        return bool(self.discs)

    def holds(self, key: InstanceKey, source_sha256: str) -> bool:
        """Tell whether the image was made of this very file."""
        found = self.instances.get(key)
        return found is not None and found.source_sha256 == source_sha256

    def why_not(self, key: InstanceKey, source_sha256: str) -> str | None:
        """Return why this very file was left out of the image, None where it was not."""
        sha256, reason = self.left_out.get(key, ("", ""))
        return reason if sha256 == source_sha256 and reason else None


def table_in(file: Path) -> dict[str, Any]:
    """Return what the file of a study holds; raises ValueError where that is no table."""
    table = json.loads(file.read_bytes())
    if not isinstance(table, dict):
        raise ValueError("it is no table")  # noqa: TRY004
    return table


def remembered(table: Mapping[str, Any]) -> Record:
    """Return what a table of the shelf says; raises ValueError where it has another form."""
    wrong = [key for key, kind in _KINDS.items() if not isinstance(table.get(key), kind)]
    if wrong:
        raise ValueError(f"{wrong[0]} is missing, or of another form")
    try:
        return _record(table)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise ValueError("what it lists has another form") from error


def _record(table: Mapping[str, Any]) -> Record:
    return Record(
        stem=table["stem"],
        name=table["disc"],
        volume_id=table["volume_id"],
        sha256=table["sha256"],
        size=table["size"],
        made_at=table["made_at"],
        is_offered=table["is_offered"],
        is_forgotten=table["is_forgotten"],
        instances={
            InstanceKey(one["study_instance_uid"], one["series_instance_uid"], one["sop_instance_uid"]): OnShelf(
                one["path"], one["sha256"], one["source_sha256"], one["decoded_from"], one.get("disc", 1)
            )
            for one in table["instances"]
        },
        left_out={InstanceKey(*one[:3]): (one[3], one[4]) for one in table["refused"]},
        discs=tuple(Image(one["disc"], one["size"], one["sha256"]) for one in table.get("discs", ())),
    )
