"""Make a disc: look at every object, refuse what is not one patient's, write, read back, and only then name it.

Whatever goes wrong, the hidden folder everything is made in is removed, and nothing is left that could be
taken for a disc.
"""

import contextlib
import errno
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from pipeline.events import Event, emit
from pipeline.filing import give_name
from pipeline.media.archive import check_pass_phrase, write_archive
from pipeline.media.arrangement import PatientNode, arranged
from pipeline.media.composition import Composed, Parts, compose
from pipeline.media.conversion import converted, must_be_converted, size_on
from pipeline.media.entry import Entry
from pipeline.media.errors import NameInUse, NoSpace, NotAsWritten, NothingForDisc, TooLarge
from pipeline.media.guards import check_patient
from pipeline.media.image import image_size, write_image
from pipeline.media.model import ANY, CD, DVD, MEDIA, Disc, DiscOptions, LeftOut, Medium, Progress, Source
from pipeline.media.pictures import pictures
from pipeline.media.read_back import read_back
from pipeline.media.scratch import check_space, scratch_beside
from pipeline.media.summary import instances_of, patient_of
from pipeline.media.survey import survey
from pipeline.media.tree import graft_points
from pipeline.media.viewer import ViewerFile, viewer_files
from pipeline.spool import flush_path
from pipeline.workshop import Workshop

OVERHEAD = 1 << 20  # bytes, about: descriptors, directories and the small files of an image


def _say_nothing(_stage: str, _done: int, _total: int) -> None:
    pass


@dataclass(frozen=True, slots=True)
class _Making:
    """What every stage of making one disc needs."""

    target: Path
    options: DiscOptions
    viewer: tuple[ViewerFile, ...]
    scratch: Path
    workshop: Workshop
    progress: Progress


def make_disc(
    sources: Sequence[Source], target: Path, options: DiscOptions, progress: Progress = _say_nothing
) -> Disc:
    """Make a disc of `sources` as the file `target`, and return it once it has been read back.

    `progress(stage, done, total)` hears of `read`, `decode` (objects), `write` and `verify` (bytes); what it
    raises calls everything off. The sources are linked, not copied, and must not change meanwhile.

    Raises:
        NoDisc: its class and `kind` say why there can be none (more than one patient, too large, ...).
        UnfitViewer: a person must look at the viewer's folder.
        Transient: not now: no space, an image that could not be written or is not as it was meant.
    """
    if target.exists():
        raise NameInUse(f"{target} exists already and stays as it is")
    if options.pass_phrase is not None:
        check_pass_phrase(options.pass_phrase)
    viewer = viewer_files(options.viewer, options.viewer_at) if options.viewer else ()
    with scratch_beside(target) as scratch, _workshop(options.workers) as workshop, _full_disk_is_no_space():
        return _made(sources, _Making(target, options, viewer, scratch, workshop, progress))


def _made(sources: Sequence[Source], making: _Making) -> Disc:
    options, progress = making.options, making.progress
    found = survey(sources, making.scratch, lambda done: progress("read", done, len(sources)))
    check_patient(
        found.entries,
        allow_several_patients=options.allow_several_patients,
        allow_no_patient_id=options.allow_no_patient_id,
    )
    fit = [entry for entry in found.entries if entry.unfit is None]
    medium = _medium(fit, making)
    ready, not_decoded = _converted(fit, medium, making)
    left_out = [*options.missing, *found.left_out, *map(_unfit, found.entries), *not_decoded]
    left_out = [one for one in left_out if one.reason]
    if not ready:
        raise NothingForDisc(_why_nothing(left_out))
    patients = arranged(ready, one_patient=not options.allow_several_patients)
    composed, written = _written(patients, left_out, medium, making)
    sha256 = _read_back(composed, written, making)
    size = written.stat().st_size
    _publish(written, making.target)
    _report(composed, left_out, size)
    return Disc(
        path=making.target,
        size=size,
        sha256=sha256,
        volume_id=composed.volume_id,
        medium=composed.medium,
        patient=patient_of(patients[0].first),
        studies=composed.studies,
        instances=instances_of(patients),
        left_out=tuple(left_out),
        duplicates=found.duplicates,
        replaces=options.replaces,
        made_at=options.made_at,
    )


@contextlib.contextmanager
def _workshop(workers: int) -> Iterator[Workshop]:
    """Open a workshop; its processes start with the first compressed object, and not before."""
    workshop = Workshop(workers or os.cpu_count() or 1)
    try:
        yield workshop
    finally:
        workshop.close()


@contextlib.contextmanager
def _full_disk_is_no_space() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace("the disk became full while the disc was made") from error
        raise


def _unfit(entry: Entry) -> LeftOut:
    return LeftOut(entry.source, entry.key, entry.unfit or "")


def _why_nothing(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return "nothing was given that could be on a disc"
    (reason, count), *_ = Counter(one.reason for one in left_out).most_common(1)
    return f"none of {len(left_out)} files can be on a disc; {count} of them: {reason}"


def _medium(entries: Sequence[Entry], making: _Making) -> Medium:
    """Choose the medium by what the objects will need: an ISO image with `auto` is for a CD if they fit."""
    wanted = making.options.media
    if wanted != "auto":
        return MEDIA[wanted]
    if making.options.container == "zip":
        return ANY
    return CD if _estimate(entries, CD, making) <= (CD.capacity_bytes or 0) else DVD


def _estimate(entries: Sequence[Entry], medium: Medium, making: _Making) -> int:
    return sum(size_on(entry, medium) for entry in entries) + sum(file.size for file in making.viewer) + OVERHEAD


def _converted(entries: Sequence[Entry], medium: Medium, making: _Making) -> tuple[list[Entry], list[LeftOut]]:
    """Refuse what cannot fit before an hour is spent decoding it; then decode."""
    to_convert = [entry for entry in entries if must_be_converted(entry, medium)]
    estimate = _estimate(entries, medium, making)
    _check_capacity(estimate - OVERHEAD, medium)
    check_space(making.scratch, sum(size_on(entry, medium) for entry in to_convert) + estimate)
    return converted(
        entries,
        medium,
        making.scratch,
        making.workshop,
        lambda done: making.progress("decode", done, len(to_convert)),
    )


def _check_capacity(needed: int, medium: Medium) -> None:
    if medium.capacity_bytes is not None and needed > medium.capacity_bytes:
        raise TooLarge(
            f"the disc would be {needed:,} bytes; a {medium.name.upper()} holds {medium.capacity_bytes:,}",
            needed_bytes=needed,
            capacity_bytes=medium.capacity_bytes,
        )


def _written(
    patients: Sequence[PatientNode], left_out: Sequence[LeftOut], medium: Medium, making: _Making
) -> tuple[Composed, Path]:
    """Compose and write the disc; what turns out too large for a CD by a little becomes a DVD with `auto`."""
    parts = Parts(patients, pictures(patients, making.workshop), left_out, making.viewer)
    may_grow = making.options.media == "auto" and medium == CD
    for number, candidate in enumerate((CD, DVD) if may_grow else (medium,)):
        composed = compose(making.scratch / f"files{number}", parts, candidate, making.options)
        write = _write_image if making.options.container == "iso" else _write_archive
        try:
            return composed, write(composed, making)
        except TooLarge:
            if candidate == DVD or not may_grow:
                raise
    raise AssertionError


def _write_image(composed: Composed, making: _Making) -> Path:
    programs = making.options.programs
    image, grafts = making.scratch / "image", making.scratch / "grafts"
    grafts.write_bytes(graft_points(composed.tree, making.scratch / "links"))
    size = image_size(grafts, image, composed.volume_id, programs)
    _check_capacity(size, composed.medium)
    check_space(making.scratch, size)
    write_image(
        grafts,
        image,
        composed.volume_id,
        programs,
        lambda done: making.progress("write", done, size),
    )
    if image.stat().st_size != size:
        raise NotAsWritten(f"the image has {image.stat().st_size:,} bytes, not the {size:,} it was to have")
    return image


def _write_archive(composed: Composed, making: _Making) -> Path:
    size = composed.size
    _check_capacity(size, composed.medium)
    check_space(making.scratch, size)
    archive = making.scratch / "archive"
    progress = making.progress
    write_archive(composed.tree, archive, making.options.pass_phrase, lambda done: progress("write", done, size))
    return archive


def _read_back(composed: Composed, written: Path, making: _Making) -> str:
    """Read the medium back while the system brings it to the disk; return its SHA-256."""
    total = composed.size
    with ThreadPoolExecutor(1, thread_name_prefix="flush") as beside:
        flushed = beside.submit(flush_path, written)
        sha256 = read_back(
            written,
            composed.volume_id,
            composed.expected,
            making.options.pass_phrase,
            lambda done: making.progress("verify", done, total),
        )
        flushed.result()
    return sha256


def _publish(written: Path, target: Path) -> None:
    """Give the disc its name: the moment it becomes true."""
    if not give_name(written, target):
        raise NameInUse(f"{target} has appeared meanwhile and stays as it is")
    flush_path(target.parent)


def _report(composed: Composed, left_out: Sequence[LeftOut], size: int) -> None:
    """Write to the log what was made, and every object that is not there; a file's name may be a person's."""
    for one in left_out:
        emit(
            Event.LEFT_OUT,
            logging.WARNING,
            volume=composed.volume_id,
            instance=one.sop_instance_uid,
            reason=one.reason,
        )
    emit(
        Event.DISC_MADE,
        volume=composed.volume_id,
        studies=",".join(study.study_instance_uid for study in composed.studies),
        instances=sum(study.instances for study in composed.studies),
        left_out=len(left_out),
        bytes=size,
        medium=composed.medium.name,
    )
