"""kind = "iso": a disc image of the whole study in a folder that people or a CD publisher take it from."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, BeforeValidator

from pipeline import dcmtk
from pipeline.destinations import Destination
from pipeline.errors import Configuration, PeerUnavailable, Permanent
from pipeline.events import Event, alarm
from pipeline.media.earlier import taken_out
from pipeline.media.errors import TooLarge
from pipeline.media.making import make_disc, make_discs
from pipeline.media.model import Container, Disc, DiscOptions, LeftOut, Replaced, Source
from pipeline.media.names import FIELDS, file_stem, unknown_fields
from pipeline.media.offering import offer, take_back
from pipeline.media.scratch import remove_abandoned
from pipeline.media.shelf import HIDDEN, Record, Shelf
from pipeline.media.viewer import viewer_files
from pipeline.model import LEFT_OUT, Consignment, ConsignmentAbout, InstanceKey, Item, Receipt, ReceiptState
from pipeline.paths import AbsolutePath
from pipeline.waypoints import reached

FOR_ORDERS = ".orders"
_PERSON_MUST_ACT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}


def _pattern(text: str) -> str:
    if unknown := unknown_fields(text):
        known = ", ".join(f"{{{field}}}" for field in FIELDS)
        raise ValueError(f"file_name holds {unknown[0]}, which is none of {known}")
    return text


class IsoDestination(Destination):
    """Make a disc of every study in `folder`, which must exist: an absent share must not fill the local disk.

    Late instances make a new image of the whole study, which says what it replaces; `pipeline.media.shelf`
    tells where the earlier instances come from.
    """

    makes_file: ClassVar[bool] = True

    kind: Literal["iso"]
    folder: AbsolutePath
    file_name: Annotated[str, AfterValidator(_pattern)] = "{accession}"
    viewer: Annotated[AbsolutePath | None, BeforeValidator(lambda text: text or None)] = None
    viewer_at: Literal["VIEWER", "root"] = "VIEWER"
    media: Literal["auto", "cd", "dvd"] = "auto"
    sets: bool = False  # what exceeds the medium becomes a numbered set instead of being refused
    contact: str = ""  # by which the finder of a disc finds the hospital

    def options(self, made_at: datetime) -> DiscOptions:
        """Return how this destination makes its discs, for whoever makes one in its name."""
        return DiscOptions(
            made_at=made_at,
            media=self.media,
            viewer=self.viewer,
            viewer_at=self.viewer_at,
            contact=self.contact,
            sets=self.sets,
            programs=self.programs,
        )

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Make, read back and offer the disc, unless that was done; see `Destination.deliver` for what it raises.

        Raises NoDisc, which is Permanent, where there can be no disc: more than one patient, too large.
        """
        if not self.folder.is_dir():
            raise Configuration(f"folder: {self.folder} does not exist; create it, or mount what belongs there")
        try:
            if consignment.about is not None:
                yield from self._for_order(consignment, consignment.about)
                return
            record = self._record_of(consignment)
        except OSError as error:
            raise _classified(error, self) from error
        for item in consignment.items:
            yield _receipt(item, record)

    def tidy(self) -> None:
        """Remove what makers that were killed have left: it is an image of a patient nobody was offered."""
        for folder in (self.folder / HIDDEN, self.folder / FOR_ORDERS):
            with contextlib.suppress(OSError):  # a share that is away
                remove_abandoned(folder)

    def problems(self) -> Iterator[str]:
        """Yield what keeps discs from being made; raises Configuration for what a person must mend."""
        if not self.folder.is_dir():
            yield f"destination {self.name}: folder {self.folder} does not exist"
        if self.viewer:
            viewer_files(self.viewer, self.viewer_at)
        dcmtk.program(self.programs, "xorriso")

    def _for_order(self, consignment: Consignment, about: ConsignmentAbout) -> Iterator[Receipt]:
        """Make the one file of an order, which is fetched by HTTP and goes after `keep_results`.

        It stands in a hidden folder beside the discs, under the order's number: no patient, no accession number.
        What cannot be on a disc is listed on it; its receipt is a warning that says so.
        """
        container: Container = "zip" if about.container == "zip" else "iso"
        target = self.folder / FOR_ORDERS / f"{about.order}.{container}"
        target.parent.mkdir(mode=0o750, exist_ok=True)
        target.unlink(missing_ok=True)  # of an attempt that was killed before anybody was told of it
        options = replace(self.options(datetime.now(UTC)), container=container)
        if about.received < about.expected:
            options = replace(options, partial=(about.received, about.expected))
        consignment.attempt(consignment.items)
        try:
            disc = make_disc([Source(i.path, i.key, i.sha256) for i in consignment.items], target, options)
        except TooLarge as error:
            raise TooLarge(
                f"{error}; an order is one file: container=zip has no limit",
                needed_bytes=error.needed_bytes,
                capacity_bytes=error.capacity_bytes,
            ) from error
        consignment.made(disc.path)
        there = {one.key for one in disc.instances}
        reasons = {one.key: one.reason for one in disc.left_out}
        for item in consignment.items:
            if item.key in there:
                yield Receipt(item.key, ReceiptState.STORED, disc.volume_id, verified=True)
                continue
            said = LEFT_OUT + reasons.get(item.key, "no reason is known")
            alarm(Event.REFUSED, order=about.order, instance=item.key.sop_instance_uid, reason=said)
            yield Receipt(item.key, ReceiptState.WARNED, disc.volume_id, said, verified=True)

    def _record_of(self, consignment: Consignment) -> Record:
        """Return what the shelf says of the study once an image with all of these items has been offered."""
        shelf = Shelf(self.folder, _studies(consignment))
        with shelf.locked():
            shelf.tidy(datetime.now(UTC))
            record = shelf.record()
            if record is None or not all(_is_settled(item, record) for item in consignment.items):
                disc, *others = self._made(consignment, record, shelf)
                reached("disc-made")
                stem = file_stem(self.file_name, disc.patient, disc.studies, disc.made_at)
                left_out = _left_out(disc, consignment, record)
                if disc.place:
                    shelf.remember_set([disc, *others], stem, left_out)
                    self._offer_set(shelf, stem)
                else:
                    shelf.remember(disc, stem, left_out)
                    self._offer(shelf, stem)
            elif not record.is_offered:
                self._offer_again(shelf, record)
            settled = shelf.record()
            assert settled is not None
            return settled

    def _made(self, consignment: Consignment, record: Record | None, shelf: Shelf) -> tuple[Disc, ...]:
        """Make the image, or the set, of all there is of the study, the earlier image's instances included."""
        options = self.options(datetime.now(UTC))
        sources = [Source(item.path, item.key, item.sha256) for item in consignment.items]
        shutil.rmtree(shelf.earlier, ignore_errors=True)
        shelf.earlier.mkdir()
        try:
            if record is not None:
                sources = [*_earlier(consignment, record, shelf), *sources]
                options = replace(options, replaces=_replaced(record), missing=_missing(consignment, record))
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

    def _offer_again(self, shelf: Shelf, record: Record) -> None:
        """Go on where a crash has ended the offering of a finished image."""
        if record.is_set:
            if shelf.made_set.exists():
                self._offer_set(shelf, record.stem)
            else:  # it has left by the one rename that makes it visible
                shelf.mark_offered()
            return
        image = shelf.image_of(record)
        if image is None:
            raise Permanent("the disc was made, but its image went before it could be offered; `send --again` it")
        if shelf.is_visible(record):
            shelf.mark_offered()
            return
        take_back(self.folder, record.name, record.sha256)
        if image != shelf.new:
            shelf.new.hardlink_to(image)
        self._offer(shelf, record.stem)


def _studies(consignment: Consignment) -> str:
    """Return what the shelf knows the consignment by: its study, or all of them."""
    return "+".join(sorted({item.key.study_instance_uid for item in consignment.items}))


def _is_settled(item: Item, record: Record) -> bool:
    return record.holds(item.key, item.sha256) or record.why_not(item.key, item.sha256) is not None


def _earlier(consignment: Consignment, record: Record, shelf: Shelf) -> Iterator[Source]:
    """Yield the instances of the earlier image that this consignment does not bring again.

    Raises Permanent where that image is no longer there: a disc of the late instances alone would be taken for
    the whole study.
    """
    if record.is_set:
        raise Permanent(
            f"these instances are late, and the earlier discs are a set ({record.volume_id}), of which no copy is "
            "kept: retrieve the study from the archive for a set of all of it"
        )
    image = None if record.is_forgotten else shelf.image_of(record)
    if image is None:
        raise Permanent(
            f"these instances are late, and the earlier image (volume {record.volume_id}) is no longer kept: "
            "retrieve the study from the archive for a disc of all of it"
        )
    brought = {item.key for item in consignment.items}
    kept = {key: one for key, one in record.instances.items() if key not in brought}
    yield from taken_out(image, kept, shelf.earlier)


def _replaced(record: Record) -> Replaced | None:
    if not record.is_offered:
        return None  # nobody has seen it
    return Replaced(record.name, record.volume_id, record.made_at[:16].replace("T", " "))


def _missing(consignment: Consignment, record: Record) -> tuple[LeftOut, ...]:
    """Return what the earlier image had to leave out: it is not on the new one either."""
    brought = {item.key for item in consignment.items}
    return tuple(
        LeftOut(Path(), key, reason) for key, (_, reason) in record.left_out.items() if key not in brought
    )


def _left_out(disc: Disc, consignment: Consignment, record: Record | None) -> dict[InstanceKey, tuple[str, str]]:
    """Return why instances of the study are not on the disc, with the file that was looked at."""
    items = {item.key: item for item in consignment.items}
    before = record.left_out if record else {}
    found = {}
    for one in disc.left_out:
        if one.key and one.key in items:
            found[one.key] = (items[one.key].sha256, one.reason)
        elif one.key and one.key in before:
            found[one.key] = before[one.key]
    return found


def _receipt(item: Item, record: Record) -> Receipt:
    if record.holds(item.key, item.sha256):
        return Receipt(item.key, ReceiptState.STORED, record.volume_id, verified=True)
    reason = record.why_not(item.key, item.sha256) or "it is not on the disc"
    return Receipt(item.key, ReceiptState.REFUSED, record.volume_id, f"left out of the disc: {reason}")


def _classified(error: OSError, destination: IsoDestination) -> Configuration | PeerUnavailable:
    if error.errno in _PERSON_MUST_ACT:
        return Configuration(f"folder: {destination.folder} cannot be written to: {error.strerror}")
    return PeerUnavailable(f"{destination.folder} cannot be written to now: {error.strerror}")


DESTINATION = IsoDestination
