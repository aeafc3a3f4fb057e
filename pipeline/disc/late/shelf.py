"""What a folder of discs remembers of each study, hidden beside the discs: the latest image, and what is on it.

An image that is taken away (a CD publisher does so within a minute) lives on as a hard link here for a week, as do
those of a set, because instances that come later make a new image of the whole study, and the earlier ones are in
those and perhaps nowhere else any more.
"""

import contextlib
import fcntl
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.disc.late.keeping import let_go
from pipeline.disc.late.offering import FILE_MODE, FOLDER_MODE, restrict
from pipeline.disc.late.remembered import Image, Record, remembered, table_in
from pipeline.disc.model import Disc
from pipeline.disc.result import as_json, set_as_json
from pipeline.errors import Permanent
from pipeline.model import InstanceKey
from pipeline.spool.digest import sha256_of
from pipeline.spool.filing import component
from pipeline.spool.spool import flush_path, write_durably

HIDDEN = ".storestow"
_OURS = {"stem", "is_offered", "is_forgotten", "refused"}  # what a record holds more than the result others see


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
        self._new_set = self._hidden / f"{stem}.new-images"
        self._kept_set = self._hidden / f"{stem}.images"

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep others from this study for the block."""
        with self._lock.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def record(self) -> Record | None:
        """Return what is remembered, None where nothing is; what a crash left half remembered is put right.

        Raises Permanent where it cannot be read: taken for nothing, late instances would pass for the whole study.
        """
        try:
            record = remembered(self._table())
        except FileNotFoundError:
            record = None
        except ValueError as error:
            raise Permanent(
                f"{self._record} does not say what the earlier disc of this study holds ({error}): put the file "
                "back from a backup, or retrieve the study from the archive for a disc of all of it; what comes "
                "late must not become a disc alone"
            ) from error
        if record is not None and _is(self.made, record):
            self.made.replace(self.new)
        self.made.unlink(missing_ok=True)
        if record is None or not record.is_set or record.is_offered:
            for folder in (self.made_set, self._new_set):
                shutil.rmtree(folder, ignore_errors=True)
        if record is None or record.is_set or record.is_offered:
            self.new.unlink(missing_ok=True)
        return record

    def remember_set(
        self, discs: Sequence[Disc], stem: str, left_out: Mapping[InstanceKey, tuple[str, str]]
    ) -> None:
        """Name the images of a set, write the `.json` beside each, then write durably what they hold."""
        named = []
        for number, disc in enumerate(discs, 1):
            image = self.made_set / f"{stem}-{number}of{len(discs)}.iso"
            disc.path.rename(image)
            result = image.with_suffix(".json")
            write_durably(result, json.dumps(as_json(disc, image.name), indent=1).encode())
            for file in (image, result):
                restrict(file, FILE_MODE)
            named.append(replace(disc, path=image))
        restrict(self.made_set, FOLDER_MODE)
        flush_path(self.made_set)
        self._link([disc.path for disc in named])
        refused = [[*_triple(key), sha256, reason] for key, (sha256, reason) in left_out.items()]
        more = {"stem": stem, "is_offered": False, "is_forgotten": False, "refused": refused}
        self._write(set_as_json(named) | more)

    def _link(self, images: Sequence[Path]) -> None:
        """Keep the images of a set, before it leaves by the one rename that makes it visible."""
        shutil.rmtree(self._new_set, ignore_errors=True)
        self._new_set.mkdir(mode=0o750)
        try:
            for image in images:
                (self._new_set / image.name).hardlink_to(image)
        except OSError:  # where there are no hard links, no copy is kept, and what is late will be refused
            shutil.rmtree(self._new_set)

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
        if "discs" in self._table():
            if self._new_set.exists():
                shutil.rmtree(self._kept_set, ignore_errors=True)
                self._new_set.rename(self._kept_set)
            self.kept.unlink(missing_ok=True)
        else:
            if self.new.exists():  # it has been renamed where there are no hard links
                self.new.rename(self.kept)
            shutil.rmtree(self._kept_set, ignore_errors=True)
        self._write(self._table() | {"is_offered": True})

    def _table(self) -> dict[str, Any]:
        return table_in(self._record)

    def _write(self, table: dict[str, Any]) -> dict[str, Any]:
        write_durably(self._record, json.dumps(table).encode())
        return table

    def images_of(self, record: Record) -> list[Path]:
        """Return files with the very bytes of the image, or of every image of the set; none where one has gone."""
        if not record.is_set:
            return [image] if (image := self.image_of(record)) else []
        folders = (
            self.made_set,
            self._new_set,
            self._kept_set,
            *([self._folder / record.name] if record.name else []),
        )
        found = [next((f / one.name for f in folders if _is(f / one.name, one)), None) for one in record.discs]
        there = [image for image in found if image]
        return there if len(there) == len(found) else []

    def image_of(self, record: Record) -> Path | None:
        """Return a file with the very bytes of the image, None where there is none any more."""
        places = (self.new, self.kept, *([self._folder / record.name] if record.name else []))
        return next((place for place in places if _is(place, record)), None)

    def has_left(self, record: Record) -> bool:
        """Tell whether what is not marked as offered has become visible all the same; it may be gone by now."""
        if not record.name:
            return False
        if record.is_set:
            return not self.made_set.exists()  # it leaves by the one rename that makes it visible
        return any(_is(place, record) for place in (self._folder / record.name, self.kept))

    def waits(self, record: Record) -> bool:
        """Tell whether all of what was made is there to be offered."""
        if record.is_set:
            return all(_is(self.made_set / one.name, one) for one in record.discs)
        return _is(self.new, record)

    def lose(self, record: Record) -> None:
        """Write durably that the set has never been visible, and remove what is left of it."""
        if record.is_set:
            self._write(self._table() | {"disc": ""})
            shutil.rmtree(self.made_set, ignore_errors=True)

    def tidy(self, now: datetime) -> None:
        """Let go, in the whole folder, of images kept a week and of records kept a year."""
        let_go(self._hidden, self._record, now)


def _is(path: Path, meant: Record | Image) -> bool:
    try:
        return path.stat().st_size == meant.size and sha256_of(path) == meant.sha256
    except FileNotFoundError:
        return False


def _triple(key: InstanceKey) -> tuple[str, str, str]:
    return key.study_instance_uid, key.series_instance_uid, key.sop_instance_uid
