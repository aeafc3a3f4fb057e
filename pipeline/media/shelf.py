"""What a folder of discs remembers of each study, hidden beside the discs: the latest image, and what is on it.

An image that is taken away (a CD publisher does so within a minute) lives on as a hard link here for a week,
because instances that come later make a new image of the whole study, and the earlier ones are in that
image and perhaps nowhere else any more.
"""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.digest import sha256_of
from pipeline.filing import component
from pipeline.media.model import Disc
from pipeline.media.result import as_json, set_as_json
from pipeline.model import InstanceKey
from pipeline.spool import flush_path, write_durably

HIDDEN = ".storestow"
KEEP_IMAGES = timedelta(days=7)
KEEP_RECORDS = timedelta(days=366)
_OURS = {"stem", "is_offered", "is_forgotten", "refused"}  # what a record holds more than the result others see


@dataclass(frozen=True, slots=True)
class OnShelf:
    """One instance of the latest image, and of the file it was received in."""

    path: str
    sha256: str
    source_sha256: str
    decoded_from: str | None


@dataclass(frozen=True, slots=True)
class Record:
    """The latest image of a study, which is called `stem`.iso or alike.

    `left_out` maps instances that are not on it to (SHA-256, reason). `is_offered` says that it has stood under
    its name for all to see; `is_forgotten` that only its name is remembered; `is_set` that it is not one image but
    a set of them in a folder of that name, of which no copy is kept.
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
    is_set: bool = False

    def holds(self, key: InstanceKey, source_sha256: str) -> bool:
        """Tell whether the image was made of this very file."""
        found = self.instances.get(key)
        return found is not None and found.source_sha256 == source_sha256

    def why_not(self, key: InstanceKey, source_sha256: str) -> str | None:
        """Return why this very file was left out of the image, None where it was not."""
        sha256, reason = self.left_out.get(key, ("", ""))
        return reason if sha256 == source_sha256 and reason else None


class Shelf:
    """The memory of one study in one folder."""

    def __init__(self, folder: Path, study_instance_uid: str) -> None:
        self._folder = folder
        self._hidden = folder / HIDDEN
        self._hidden.mkdir(mode=0o750, exist_ok=True)
        stem = component(study_instance_uid)
        self._record = self._hidden / f"{stem}.json"
        self._lock = self._hidden / f"{stem}.lock"
        self.kept = self._hidden / f"{stem}.image"
        self.new = self._hidden / f"{stem}.new"
        self.made = self._hidden / f"{stem}.made"
        self.earlier = self._hidden / f"{stem}.earlier"
        self.made_set = self._hidden / stem  # where `make_discs` puts a set instead of `made`

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from this study for the block."""
        with self._lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def record(self) -> Record | None:
        """Return what is remembered, None where nothing is; what a crash left half remembered is put right."""
        try:
            record = _read(self._table())
        except FileNotFoundError:
            record = None
        if record is not None and _is(self.made, record):
            self.made.replace(self.new)
        self.made.unlink(missing_ok=True)
        if record is None or not record.is_set or record.is_offered:
            shutil.rmtree(self.made_set, ignore_errors=True)
        return record

    def remember_set(
        self, discs: Sequence[Disc], stem: str, left_out: Mapping[InstanceKey, tuple[str, str]]
    ) -> None:
        """Name the images of a set, write the `.json` beside each, then write durably what they hold."""
        for number, disc in enumerate(discs, 1):
            image = self.made_set / f"{stem}-{number}of{len(discs)}.iso"
            disc.path.rename(image)
            write_durably(image.with_suffix(".json"), json.dumps(as_json(disc, image.name), indent=1).encode())
        flush_path(self.made_set)
        refused = [[*_triple(key), sha256, reason] for key, (sha256, reason) in left_out.items()]
        more = {"stem": stem, "is_offered": False, "is_forgotten": False, "refused": refused}
        self._write(set_as_json(discs) | more)

    def offer_set(self, stem: str) -> None:
        """Let the set appear as the folder `stem`, or `stem`-2 where that is in use, by one rename."""
        for number in count(1):
            name = stem if number == 1 else f"{stem}-{number}"
            place = self._folder / name
            if place.exists():
                continue
            self.named(name)
            try:
                self.made_set.rename(place)
            except OSError:
                if not place.exists():
                    raise
                continue
            flush_path(self._folder)
            return

    def remember(self, disc: Disc, stem: str, left_out: Mapping[InstanceKey, tuple[str, str]]) -> None:
        """Write durably what the image `made` holds, before anybody else sees it; it is `new` from here on."""
        refused = [[*_triple(key), sha256, reason] for key, (sha256, reason) in left_out.items()]
        more = {"stem": stem, "is_offered": False, "is_forgotten": False, "refused": refused}
        self._write(as_json(disc, "") | more)
        self.made.replace(self.new)

    def named(self, name: str) -> dict[str, Any]:
        """Write durably the name the image is about to get; return its result as others may see it."""
        table = self._write(self._table() | {"disc": name})
        return {key: value for key, value in table.items() if key not in _OURS}

    def mark_offered(self) -> None:
        """Keep the image, and write durably that it has stood under its name."""
        if self.new.exists():  # it has been renamed where there are no hard links
            self.new.rename(self.kept)
        self._write(self._table() | {"is_offered": True})

    def _table(self) -> dict[str, Any]:
        table: dict[str, Any] = json.loads(self._record.read_bytes())
        return table

    def _write(self, table: dict[str, Any]) -> dict[str, Any]:
        write_durably(self._record, json.dumps(table).encode())
        return table

    def image_of(self, record: Record) -> Path | None:
        """Return a file with the very bytes of the image, None where there is none any more."""
        places = (self.new, self.kept, *([self._folder / record.name] if record.name else []))
        return next((place for place in places if _is(place, record)), None)

    def is_visible(self, record: Record) -> bool:
        """Tell whether the image stands under its name."""
        return bool(record.name) and _is(self._folder / record.name, record)

    def tidy(self, now: datetime) -> None:
        """Let go, in the whole folder, of images kept a week and of records kept a year."""
        for path in self._hidden.iterdir():
            age = now.timestamp() - path.stat().st_mtime
            if path.suffix == ".image" and age > KEEP_IMAGES.total_seconds():
                _shorten(path.with_suffix(".json"))
                path.unlink(missing_ok=True)
            elif path.suffix in {".json", ".lock"} and age > KEEP_RECORDS.total_seconds():
                path.unlink(missing_ok=True)


def _shorten(record: Path) -> None:
    """Forget what was on an image that goes; its name remains, so that nobody takes a part for the whole."""
    with contextlib.suppress(FileNotFoundError):
        table = json.loads(record.read_bytes())
        short = {"instances": [], "left_out": [], "refused": [], "is_forgotten": True}
        write_durably(record, json.dumps(table | short).encode())


def _is(path: Path, record: Record) -> bool:
    try:
        return path.stat().st_size == record.size and sha256_of(path) == record.sha256
    except FileNotFoundError:
        return False


def _read(table: dict[str, Any]) -> Record:
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
                one["path"], one["sha256"], one["source_sha256"], one["decoded_from"]
            )
            for one in table["instances"]
        },
        left_out={InstanceKey(*one[:3]): (one[3], one[4]) for one in table["refused"]},
        is_set="discs" in table,
    )


def _triple(key: InstanceKey) -> tuple[str, str, str]:
    return key.study_instance_uid, key.series_instance_uid, key.sop_instance_uid
