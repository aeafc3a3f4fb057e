"""The disc of a study in a folder that others read: it holds the whole study, appears once, and replaces no file.

It is made in a hidden folder beside the discs. The ledger records what is on it (by `Consignment.remember`) before
anything is visible. Once the disc was visible, the hidden file is renamed, so that after a crash a disc that a CD
publisher has taken is not mistaken for one that never appeared.
"""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from pipeline.disc.make.make import make_disc
from pipeline.disc.model import Disc, DiscOptions, ReplacedDisc, SourceFile, as_json
from pipeline.disc.pages.disc_names import file_stem
from pipeline.model import Consignment, InstanceKey, LeftOutCode, NewDisc, Receipt, ReceiptState, WhyLeftOut
from pipeline.spool.durable import flush_path, remove_tree, rename, unlink, write_durably
from pipeline.spool.hashed_files import sha256_of
from pipeline.spool.store_file import component, give_name

HIDDEN = ".storestow"
_KEEP_SECONDS = 7 * 86400.0
SUFFIX, RESULT = ".iso", ".json"
_MODE = 0o640  # The mode of published files, which hold a patient's images, or their list.


@dataclass(frozen=True, slots=True)
class StudyDisc:
    """The folder for discs, the pattern of their file names, and the options with which they are made."""

    folder: Path
    file_name: str
    options: DiscOptions

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Make a disc of all items and publish it, unless an earlier disc holds all of them.

        Yields the receipt of each item. Raises what `make_disc` raises, and OSError for the folder.
        """
        image, seen = hidden_files(self.folder, consignment.study_instance_uid)
        image.parent.mkdir(mode=0o750, exist_ok=True)
        for file in (image, seen):
            unlink(file, missing_ok=True)
        consignment.attempt(consignment.items)
        disc = self._made(consignment, image)
        on_it = {instance.key for instance in disc.instances}
        left_out = _left_out(disc, consignment)
        if on_it <= consignment.on_earlier:
            unlink(image)
        else:
            self._offer(disc, left_out, consignment)
            if image.exists():  # On a file system without hard links, `offer` has renamed it.
                rename(image, seen)
            consignment.offered()
            unlink(seen, missing_ok=True)
        for item in consignment.items:
            if item.key in on_it:
                yield Receipt(item.key, ReceiptState.STORED, disc.volume_id, verified=True)
            else:
                code, reason = left_out[item.key]
                yield Receipt(item.key, ReceiptState.REFUSED, disc.volume_id, reason, left_out=code)

    def _made(self, consignment: Consignment, image: Path) -> Disc:
        earlier = consignment.earlier
        replaced = ReplacedDisc(earlier.name, earlier.volume_id, _readable(earlier.made_at)) if earlier else None
        sources = [SourceFile(item.path, item.key, item.sha256) for item in consignment.items]
        return make_disc(sources, image, replace(self.options, replaces=replaced))

    def _offer(self, disc: Disc, left_out: dict[InstanceKey, WhyLeftOut], consignment: Consignment) -> None:
        on_it = tuple(instance.key for instance in disc.instances)

        def remembered(name: str) -> dict[str, Any]:
            new = NewDisc(name, disc.volume_id, disc.size, disc.sha256, disc.made_at, on_it, left_out)
            consignment.remember(new)
            return as_json(disc, name)

        stem = file_stem(self.file_name, disc.patient, disc.studies, disc.made_at)
        offer(disc.path, self.folder, stem, remembered)


def hidden_files(folder: Path, study_instance_uid: str) -> tuple[Path, Path]:
    """Return two hidden paths for the disc of a study: while it is made, and once it was visible."""
    stem = component(study_instance_uid)
    return folder / HIDDEN / f"{stem}.made", folder / HIDDEN / f"{stem}.seen"


def has_been_seen(folder: Path, study_instance_uid: str, disc: NewDisc) -> bool:
    """Tell whether a recorded disc was visible under its name, and remove the rest of the attempt."""
    image, seen = hidden_files(folder, study_instance_uid)
    was_seen = seen.exists() or _is(folder / disc.name, disc)
    if not was_seen:
        take_back(folder, disc.name, disc.sha256)
    for file in (image, seen):
        unlink(file, missing_ok=True)
    return was_seen


def tidy(folder: Path, now: float) -> None:
    """Remove files older than a week from the hidden folder; `now` is in seconds since the epoch.

    A disc that is still needed is made again. Earlier versions of the program left hard links of images, and
    records of their contents.
    """
    for path in (folder / HIDDEN).iterdir():
        if now - path.lstat().st_mtime < _KEEP_SECONDS:
            continue
        if path.is_dir():
            remove_tree(path, ignore_errors=True)
        else:
            unlink(path, missing_ok=True)


def _is(path: Path, disc: NewDisc) -> bool:
    try:
        return path.stat().st_size == disc.size and sha256_of(path) == disc.sha256
    except FileNotFoundError:
        return False


def _readable(moment: datetime) -> str:
    return moment.isoformat()[:16].replace("T", " ")


def _left_out(disc: Disc, consignment: Consignment) -> dict[InstanceKey, WhyLeftOut]:
    """Return why items are not on the disc.

    An item on the disc is not in the result, although another file with its UIDs may have been left out.
    """
    there = {instance.key for instance in disc.instances}
    known = {
        left_out.key: WhyLeftOut(left_out.code, left_out.reason) for left_out in disc.left_out if left_out.key
    }
    unknown = WhyLeftOut(LeftOutCode.OTHER, "no reason is known")
    missing = {item.key: known.get(item.key, unknown) for item in consignment.items if item.key not in there}
    return {key: why._replace(reason=f"left out of the disc: {why.reason}") for key, why in missing.items()}


def offer(image: Path, folder: Path, stem: str, result: Callable[[str], dict[str, Any]]) -> str:
    """Publish `image` in `folder` as `stem`.iso, or `stem`-2.iso if that name is in use; return the name.

    `result(name)` is called before any file appears under that name, and returns the content of the `.json`, which
    appears first: a reader that finds an image finds its result, too.
    """
    for number in count(1):
        plain = stem if number == 1 else f"{stem}-{number}"
        if (folder / f"{plain}{SUFFIX}").exists() or (folder / f"{plain}{RESULT}").exists():
            continue
        table = result(f"{plain}{SUFFIX}")
        if _appears(image, folder, plain, table):
            return f"{plain}{SUFFIX}"
    raise AssertionError


def take_back(folder: Path, name: str, sha256: str) -> None:
    """Remove the `.json` of the disc with this name and SHA-256 if a crash has left it without its image."""
    result = (folder / name).with_suffix(RESULT)
    with contextlib.suppress(OSError, ValueError):
        if not (folder / name).exists() and json.loads(result.read_bytes())["sha256"] == sha256:
            unlink(result)


def _appears(image: Path, folder: Path, stem: str, table: dict[str, Any]) -> bool:
    beside = image.with_suffix(".result")
    write_durably(beside, json.dumps(table, indent=1).encode())
    for file in (beside, image):
        with contextlib.suppress(OSError):  # Some network shares do not support modes.
            file.chmod(_MODE)
    try:
        if not give_name(beside, folder / f"{stem}{RESULT}"):
            return False
    finally:
        unlink(beside, missing_ok=True)
    if not give_name(image, folder / f"{stem}{SUFFIX}"):
        unlink(folder / f"{stem}{RESULT}", missing_ok=True)
        return False
    flush_path(folder)
    return True
