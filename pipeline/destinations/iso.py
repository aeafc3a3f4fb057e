"""kind = "iso": make a disc image of the whole study in a folder, for people or a CD publisher."""

import contextlib
import errno
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import AfterValidator, BeforeValidator, model_validator

from pipeline import dcmtk
from pipeline.config.keys import AbsolutePath
from pipeline.destinations import Destination
from pipeline.disc.errors import TooLarge
from pipeline.disc.formats.scratch import remove_abandoned
from pipeline.disc.model import Container, DiscOptions, LeftOut, Media, SourceFile
from pipeline.disc.pages.disc_names import FIELDS, unknown_fields
from pipeline.errors import Configuration, PeerUnavailable
from pipeline.events import Event, alarm, escaped
from pipeline.model import Consignment, ConsignmentAbout, LeftOutCode, NewDisc, Receipt, ReceiptState
from pipeline.spool.durable import unlink

FOR_ORDERS = ".orders"
_PERSON_MUST_ACT = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG}


def _pattern(text: str) -> str:
    if unknown := unknown_fields(text):
        known = ", ".join(f"{{{field}}}" for field in FIELDS)
        raise ValueError(f"file_name holds {unknown[0]}, which is none of {known}")
    return text


class IsoDestination(Destination):
    """Make a disc of every study in `folder`, which must exist: an absent share must not fill the local disk.

    Late instances lead to a new image of the whole study, which says which disc it replaces.
    """

    makes_file: ClassVar[bool] = True

    kind: Literal["iso"]
    folder: AbsolutePath
    """Where the images are made; it must exist. Example: `"/srv/discs"`"""
    file_name: Annotated[str, AfterValidator(_pattern)] = "{accession}"
    """Name of an image without its ending; it may hold {accession}, {patient_name}, {study_instance_uid} and
    {date}."""
    viewer: Annotated[AbsolutePath | None, BeforeValidator(lambda text: text or None)] = None
    """Folder of a viewer that the site is licensed to hand out. Example: `"/srv/viewer"`"""
    viewer_at: Literal["VIEWER", "root"] = "VIEWER"
    """Where on the disc the viewer goes."""
    viewer_autorun: bool = False
    """Whether the viewer's own AUTORUN.INF goes along; needs `viewer_at = "root"`."""
    media: Media = "auto"
    """What must hold the image, which decides the size that is allowed."""
    contact: str = ""
    """How the finder of a disc reaches the hospital. Example: `"Example Hospital, +1 555 0100"`"""

    @model_validator(mode="before")
    @classmethod
    def _sets_are_gone(cls, table: Any) -> Any:
        if isinstance(table, dict) and "sets" in table:
            raise ValueError(
                'sets is gone, there are no numbered sets of discs any more: use media ("dvd" holds more than '
                '"cd", "usb" has no limit), or container=zip in a link'
            )
        return table

    @model_validator(mode="after")
    def _autorun_works_in_the_root_only(self) -> Self:
        if self.viewer_autorun and self.viewer_at != "root":
            raise ValueError('viewer_autorun = true needs viewer_at = "root": AUTORUN.INF works in the root only')
        return self

    @property
    def writes_to(self) -> Path:
        """Return the folder."""
        return self.folder

    def options(self, made_at: datetime) -> DiscOptions:
        """Return the options of this destination's discs; other callers use them to make a disc for it."""
        return DiscOptions(
            made_at=made_at,
            media=self.media,
            viewer=self.viewer,
            viewer_at=self.viewer_at,
            viewer_autorun=self.viewer_autorun,
            contact=self.contact,
            allow_no_patient_id=True,  # Name and birth date then prove one patient.
            placeholders=self.placeholders,
            languages=self.on_discs.languages,
            hospital=self.on_discs.hospital,
            logo=self.on_discs.logo,
            programs=self.programs,
        )

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Make and read back a disc, and publish it unless an earlier disc has all items; or make an order's file.

        Raises NoDisc, which is Permanent, if no disc can be made: more than one patient, or too large. See
        `Destination.deliver` for what else it raises.
        """
        from pipeline.disc.make import study_disc

        with self._usable():
            if consignment.about is not None:
                yield from self._for_order(consignment, consignment.about)
                return
            options = replace(self.options(datetime.now(UTC)), missing=_set_aside(consignment))
            yield from study_disc.StudyDisc(self.folder, self.file_name, options).deliver(consignment)

    def has_been_seen(self, study_instance_uid: str, disc: NewDisc) -> bool:
        """Tell whether a disc was visible under its name; see `Destination.has_been_seen`."""
        from pipeline.disc.make import study_disc

        with self._usable():
            return study_disc.has_been_seen(self.folder, study_instance_uid, disc)

    @contextlib.contextmanager
    def _usable(self) -> Iterator[None]:
        """Raise Configuration if the folder does not exist, and classify its errors in the block."""
        if not self.folder.is_dir():
            raise Configuration(f"folder: {self.folder} does not exist; create it, or mount what belongs there")
        try:
            yield
        except OSError as error:
            raise _classified(error, self) from error

    def be_ready(self) -> None:
        """Import the modules and load the templates of a disc: this takes as long as to make a small one."""
        from pipeline.disc.make import study_disc  # noqa: F401
        from pipeline.disc.pages.disc_pages import load_templates

        load_templates()

    def read_ahead(self, path: Path, scratch: Path) -> None:
        """Read what the DICOMDIR needs of the file; see `Destination.read_ahead`."""
        from pipeline.disc.objects.entry import WANTED
        from pipeline.disc.objects.raw import read_ahead

        read_ahead(path, WANTED, scratch)

    def tidy(self) -> None:
        """Remove unpublished images that killed processes have left, because they hold a patient's data."""
        from pipeline.disc.make import study_disc

        with contextlib.suppress(OSError):  # The share may not be mounted.
            study_disc.tidy(self.folder, time.time())
        for folder in (self.folder / study_disc.HIDDEN, self.folder / FOR_ORDERS):
            with contextlib.suppress(OSError):
                remove_abandoned(folder)

    def problems(self) -> Iterator[str]:
        """Yield a sentence if the folder does not exist; raises Configuration for the viewer and xorriso."""
        from pipeline.disc.make.viewer import viewer_files

        if not self.folder.is_dir():
            where = f"destination {self.name}: folder {self.folder}"
            yield f"{where} does not exist; create it, or mount what belongs there"
        if self.viewer:
            viewer_files(self.viewer, self.viewer_at, with_autorun=self.viewer_autorun)
        dcmtk.program(self.programs, "xorriso")

    def notes(self) -> Iterator[str]:
        """Yield a remark with the settings in the viewer's own AUTORUN.INF, if that file is left out."""
        from pipeline.disc.make.viewer import autorun_of

        lines = autorun_of(self.viewer) if self.viewer and not self.viewer_autorun else []
        if lines:
            said = "; ".join(escaped(line, 80).strip('"') for line in lines[:5])
            yield (
                "the viewer's AUTORUN.INF is on no disc: Windows starts nothing by itself, and shows neither its "
                f'icon nor its label ({said}); viewer_autorun = true, with viewer_at = "root", keeps it'
            )

    def _for_order(self, consignment: Consignment, about: ConsignmentAbout) -> Iterator[Receipt]:
        """Make the one file of an order, which is fetched by HTTP and deleted after `keep_results`.

        The file is in a hidden folder beside the discs; its name is the order's number, without patient or
        accession number. The disc lists instances that cannot be on it, and their receipts are warnings with the
        reason.
        """
        from pipeline.disc.make.make import make_disc

        container: Container = "zip" if about.container == "zip" else "iso"
        target = self.folder / FOR_ORDERS / f"{about.order}.{container}"
        target.parent.mkdir(mode=0o750, exist_ok=True)
        unlink(target, missing_ok=True)  # A killed attempt left the file, and no person was told of it.
        options = replace(self.options(datetime.now(UTC)), container=container, missing=_set_aside(consignment))
        options = replace(options, hashes_image=False)  # Nobody is told the hash of an order's file.
        options = replace(options, only=about.modalities, unknown=about.missing)
        if about.counted is not None:
            options = replace(options, counted=(about.received, about.counted))
        options = replace(options, identity_allowed=about.identity_allowed)
        if about.received < about.expected:
            options = replace(options, partial=(about.received, about.expected))
        consignment.attempt(consignment.items)
        try:
            disc = make_disc([SourceFile(i.path, i.key, i.sha256) for i in consignment.items], target, options)
        except TooLarge as error:
            raise TooLarge(
                f"{error}; an order is one file: container=zip has no limit",
                needed_bytes=error.needed_bytes,
                capacity_bytes=error.capacity_bytes,
            ) from error
        consignment.made(disc.path)
        there = {instance.key for instance in disc.instances}
        reasons = {omission.key: omission for omission in disc.left_out}
        for item in consignment.items:
            if item.key in there:
                yield Receipt(item.key, ReceiptState.STORED, disc.volume_id, verified=True)
                continue
            why = reasons.get(item.key) or LeftOut(Path(), item.key, LeftOutCode.OTHER, "no reason is known")
            uid = item.key.sop_instance_uid
            alarm(Event.REFUSED, order=about.order, instance=uid, code=why.code, reason=why.reason)
            yield Receipt(
                item.key, ReceiptState.WARNED, disc.volume_id, why.reason, verified=True, left_out=why.code
            )


def _set_aside(consignment: Consignment) -> tuple[LeftOut, ...]:
    """Return the instances that were set aside and are on no disc, so that the disc's pages list them."""
    return tuple(
        LeftOut(Path(), set_aside.key, LeftOutCode.SET_ASIDE, set_aside.reason)
        for set_aside in consignment.set_aside
    )


def _classified(error: OSError, destination: IsoDestination) -> Configuration | PeerUnavailable:
    if error.errno in _PERSON_MUST_ACT:
        return Configuration(f"folder: {destination.folder} cannot be written to: {error.strerror}")
    return PeerUnavailable(f"{destination.folder} cannot be written to now: {error.strerror}")


DESTINATION = IsoDestination
