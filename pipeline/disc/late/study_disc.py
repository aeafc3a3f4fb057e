"""The disc of a study in a folder that others take it from: made once, and anew when instances come late.

What is remembered between two deliveries, and where the earlier instances come from: `pipeline.disc.late.shelf`.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.disc.late.earlier import taken_out
from pipeline.disc.late.offering import offer, take_back
from pipeline.disc.late.remembered import Record
from pipeline.disc.late.shelf import Shelf
from pipeline.disc.make.making import make_discs
from pipeline.disc.model import Disc, DiscOptions, LeftOut, Replaced, Source
from pipeline.disc.pages.names import file_stem
from pipeline.errors import Permanent
from pipeline.model import Consignment, InstanceKey, Item, Receipt, ReceiptState
from pipeline.waypoints import reached


@dataclass(frozen=True, slots=True)
class StudyDisc:
    """How the discs of a folder are made and called."""

    folder: Path
    file_name: str
    options: DiscOptions

    def record_of(self, consignment: Consignment) -> Record:
        """Return what the shelf says of the study once an image with all of these items has been offered.

        Raises what `make_discs` raises; Permanent where instances are late and the earlier image has gone, or
        where what is remembered cannot be read.
        """
        shelf = Shelf(self.folder, _studies(consignment))
        with shelf.locked():
            shelf.tidy(self.options.made_at)
            record = self._remembered(shelf)
            if record is None and consignment.brought_before:
                raise Permanent(
                    f"these instances are late, and {self.folder} does not remember the disc that "
                    f"{consignment.brought_before} others are on: retrieve the study from the archive for a disc "
                    "of all of it"
                )
            if record is None or not _is_settled(consignment, record):
                self._make(consignment, record, shelf)
                record = shelf.record()
            assert record is not None
            return record

    def _remembered(self, shelf: Shelf) -> Record | None:
        """Return what is remembered; where its offering was not finished, it is finished first.

        So a new image can say that it replaces it. What went before it could be offered stays not offered.
        """
        record = shelf.record()
        if record is None or record.is_offered:
            return record
        if shelf.has_left(record):
            shelf.mark_offered()
        elif not shelf.waits(record):
            shelf.lose(record)
        elif record.is_set:
            self._offer_set(shelf, record.stem)
        else:
            if record.name:
                take_back(self.folder, record.name, record.sha256)
            self._offer(shelf, record.stem)
        return shelf.record()

    def _make(self, consignment: Consignment, record: Record | None, shelf: Shelf) -> None:
        """Make what is to be offered, remember it, and offer it."""
        disc, *others = self._made(consignment, record, shelf)
        reached("disc-made")
        stem = file_stem(self.file_name, disc.patient, disc.studies, disc.made_at)
        left_out = _left_out((disc, *others), consignment, record)
        if disc.place:
            shelf.remember_set([disc, *others], stem, left_out)
            self._offer_set(shelf, stem)
        else:
            shelf.remember(disc, stem, left_out)
            self._offer(shelf, stem)

    def _made(self, consignment: Consignment, record: Record | None, shelf: Shelf) -> tuple[Disc, ...]:
        """Make the image, or the set, of all there is of the study, the earlier image's instances included."""
        options = self.options
        sources = [Source(item.path, item.key, item.sha256) for item in consignment.items]
        shutil.rmtree(shelf.earlier, ignore_errors=True)
        shelf.earlier.mkdir()
        try:
            if record is not None:
                sources = [*_earlier(consignment, record, shelf), *sources]
                missing = (*options.missing, *_missing(consignment, record))
                options = replace(options, replaces=_replaced(record), missing=missing)
            consignment.attempt(consignment.items)
            return make_discs(sources, shelf.made, options)
        finally:
            shutil.rmtree(shelf.earlier, ignore_errors=True)

    def _offer(self, shelf: Shelf, stem: str) -> None:
        reached("disc-remembered")
        offer(shelf.new, self.folder, stem, shelf.named)
        reached("disc-offered")
        shelf.mark_offered()

    def _offer_set(self, shelf: Shelf, stem: str) -> None:
        reached("disc-remembered")
        shelf.offer_set(stem)
        reached("disc-offered")
        shelf.mark_offered()


def receipt(item: Item, record: Record) -> Receipt:
    """Return what has become of an instance of the study."""
    if record.holds(item.key, item.sha256):
        return Receipt(item.key, ReceiptState.STORED, record.volume_id, verified=True)
    reason = record.why_not(item.key, item.sha256) or "it is not on the disc"
    return Receipt(item.key, ReceiptState.REFUSED, record.volume_id, f"left out of the disc: {reason}")


def _studies(consignment: Consignment) -> str:
    """Return what the shelf knows the consignment by: its study, or all of them."""
    return "+".join(sorted({item.key.study_instance_uid for item in consignment.items}))


def _is_settled(consignment: Consignment, record: Record) -> bool:
    """Tell whether an image has been offered that was made of all these items."""
    return record.is_offered and all(
        record.holds(item.key, item.sha256) or record.why_not(item.key, item.sha256) is not None
        for item in consignment.items
    )


def _earlier(consignment: Consignment, record: Record, shelf: Shelf) -> Iterator[Source]:
    """Yield the instances of the earlier image, or set, that this consignment does not bring again.

    Raises Permanent where that is no longer there: a disc of the late instances alone would be taken for the
    whole study.
    """
    brought = {item.key for item in consignment.items}
    kept = {key: one for key, one in record.instances.items() if key not in brought}
    if not (kept or record.is_forgotten):
        return
    images = [] if record.is_forgotten else shelf.images_of(record)
    if not images:
        what = "set of discs" if record.is_set else "image"
        raise Permanent(
            f"these instances are late, and the earlier {what} (volume {record.volume_id}) is no longer kept: "
            "retrieve the study from the archive for a disc of all of it"
        )
    yield from taken_out(images, kept, shelf.earlier)


def _replaced(record: Record) -> Replaced | None:
    if not record.name:
        return None  # nobody has seen it
    return Replaced(record.name, record.volume_id, record.made_at[:16].replace("T", " "))


def _missing(consignment: Consignment, record: Record) -> tuple[LeftOut, ...]:
    """Return what the earlier image had to leave out: it is not on the new one either."""
    brought = {item.key for item in consignment.items}
    return tuple(
        LeftOut(Path(), key, reason) for key, (_, reason) in record.left_out.items() if key not in brought
    )


def _left_out(
    discs: Sequence[Disc], consignment: Consignment, record: Record | None
) -> dict[InstanceKey, tuple[str, str]]:
    """Return why instances of the study are not on the disc, with the file that was looked at."""
    items = {item.key: item for item in consignment.items}
    before = record.left_out if record else {}
    there = {one.key for disc in discs for one in disc.instances}
    found = {}
    for one in discs[0].left_out:  # of a set, each says it of all
        if one.key in there:
            continue  # another object of these UIDs was set aside
        if one.key and one.key in items:
            found[one.key] = (items[one.key].sha256, one.reason)
        elif one.key and one.key in before:
            found[one.key] = before[one.key]
    return found
