"""The disc of a study in a folder that others take it from: made of all of it, once, and never over anything.

It is made in a hidden folder beside the discs. What is on it is remembered (by `Consignment.remember`) before
anything of it can be seen; the hidden file is renamed once the disc has been seen, so that after a crash one that
a CD publisher has taken away is not taken for one that nobody saw.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from pipeline.disc.make.make import make_disc
from pipeline.disc.make.publish import offer, take_back
from pipeline.disc.model import Disc, DiscOptions, ReplacedDisc, SourceFile
from pipeline.disc.pages.disc_names import file_stem
from pipeline.disc.result import as_json
from pipeline.model import Consignment, InstanceKey, NewDisc, Receipt, ReceiptState
from pipeline.spool.digest import sha256_of
from pipeline.spool.store_file import component
from pipeline.waypoints import reached

HIDDEN = ".storestow"
_KEEP_SECONDS = 7 * 86400.0


@dataclass(frozen=True, slots=True)
class StudyDisc:
    """How the discs of a folder are made and called."""

    folder: Path
    file_name: str
    options: DiscOptions

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Make a disc of all items and offer it, unless it holds nothing that is not on the earlier one.

        Yields what has become of each item. Raises what `make_disc` raises, and OSError of the folder.
        """
        image, seen = hidden_files(self.folder, consignment.study_instance_uid)
        image.parent.mkdir(mode=0o750, exist_ok=True)
        for file in (image, seen):
            file.unlink(missing_ok=True)
        consignment.attempt(consignment.items)
        disc = self._made(consignment, image)
        reached("disc-made")
        on_it = {one.key for one in disc.instances}
        left_out = _left_out(disc, consignment)
        if on_it <= consignment.on_earlier:
            image.unlink()
        else:
            self._offer(disc, left_out, consignment)
            if image.exists():  # where there are no hard links, it has been renamed
                image.replace(seen)
            reached("disc-offered")
            consignment.offered()
            reached("disc-noted")
            seen.unlink(missing_ok=True)
        for item in consignment.items:
            if item.key in on_it:
                yield Receipt(item.key, ReceiptState.STORED, disc.volume_id, verified=True)
            else:
                yield Receipt(item.key, ReceiptState.REFUSED, disc.volume_id, left_out[item.key])

    def _made(self, consignment: Consignment, image: Path) -> Disc:
        earlier = consignment.earlier
        replaced = ReplacedDisc(earlier.name, earlier.volume_id, _readable(earlier.made_at)) if earlier else None
        sources = [SourceFile(item.path, item.key, item.sha256) for item in consignment.items]
        return make_disc(sources, image, replace(self.options, replaces=replaced))

    def _offer(self, disc: Disc, left_out: dict[InstanceKey, str], consignment: Consignment) -> None:
        on_it = tuple(one.key for one in disc.instances)

        def remembered(name: str) -> dict[str, Any]:
            new = NewDisc(name, disc.volume_id, disc.size, disc.sha256, disc.made_at, on_it, left_out)
            consignment.remember(new)
            reached("disc-remembered")
            return as_json(disc, name)

        stem = file_stem(self.file_name, disc.patient, disc.studies, disc.made_at)
        offer(disc.path, self.folder, stem, remembered)


def hidden_files(folder: Path, study_instance_uid: str) -> tuple[Path, Path]:
    """Return where the disc of a study is made, and what that file is called once it has been seen."""
    stem = component(study_instance_uid)
    return folder / HIDDEN / f"{stem}.made", folder / HIDDEN / f"{stem}.seen"


def has_been_seen(folder: Path, study_instance_uid: str, disc: NewDisc) -> bool:
    """Tell whether a disc that was remembered has stood under its name, and remove what is left of the attempt."""
    image, seen = hidden_files(folder, study_instance_uid)
    was_seen = seen.exists() or _is(folder / disc.name, disc)
    if not was_seen:
        take_back(folder, disc.name, disc.sha256)
    for file in (image, seen):
        file.unlink(missing_ok=True)
    return was_seen


def tidy(folder: Path, now: float) -> None:
    """Remove from the hidden folder what is a week old: it is made again where somebody still needs it.

    Among it is what earlier versions kept there: images as hard links, and records of what was on them.
    """
    for path in (folder / HIDDEN).iterdir():
        if now - path.lstat().st_mtime < _KEEP_SECONDS:
            continue
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _is(path: Path, disc: NewDisc) -> bool:
    try:
        return path.stat().st_size == disc.size and sha256_of(path) == disc.sha256
    except FileNotFoundError:
        return False


def _readable(moment: datetime) -> str:
    return moment.isoformat()[:16].replace("T", " ")


def _left_out(disc: Disc, consignment: Consignment) -> dict[InstanceKey, str]:
    """Return why items are not on the disc; another object of the same UIDs may have been set aside besides."""
    there = {one.key for one in disc.instances}
    reasons = {one.key: one.reason for one in disc.left_out if one.key}
    missing = (item.key for item in consignment.items if item.key not in there)
    return {key: f"left out of the disc: {reasons.get(key, 'no reason is known')}" for key in missing}
