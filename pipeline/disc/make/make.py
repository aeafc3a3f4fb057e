"""Make a disc: read every object, refuse those of another patient, write, read back, and only then name the image.

Whatever goes wrong, the hidden folder with all temporary files is removed, and no file is left that could be taken
for a disc.
"""

import contextlib
import errno
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.disc.errors import NameInUse, NoSpace, TooLarge
from pipeline.disc.formats.archive import check_pass_phrase
from pipeline.disc.formats.scratch import scratch_beside
from pipeline.disc.make.composition import ComposedDisc, DiscParts, compose
from pipeline.disc.make.plan import DiscPlan, fitted, loaded
from pipeline.disc.make.viewer import ViewerFile, viewer_files
from pipeline.disc.make.writing import Making, WrittenDisc, measured, proven, written_archive, written_image
from pipeline.disc.model import CD, DVD, Disc, DiscOptions, LeftOut, Progress, SourceFile
from pipeline.disc.pages.disc_pages import instances_of, patient_of
from pipeline.disc.verify.read_back import NOTHING_KNOWN
from pipeline.events import Event, emit
from pipeline.processes.process_pool import ProcessPool
from pipeline.spool.durable import flush_path
from pipeline.spool.store_file import give_name


def _say_nothing(_stage: str, _done: int, _total: int) -> None:
    pass


def make_disc(
    sources: Sequence[SourceFile], target: Path, options: DiscOptions, progress: Progress = _say_nothing
) -> Disc:
    """Make a disc of `sources` as the file `target`, and return it once it has been read back.

    `progress(stage, done, total)` is called for `read`, `decode` (objects), `write` and `verify` (bytes); an
    exception from it cancels everything. The sources are linked, not copied, and must not change meanwhile.

    Raises:
        NoDisc: its class and `kind` say why there can be no disc (more than one patient, too large, ...).
        UnfitViewer: a person must look at the viewer's folder.
        NoPlace: the folder of `target` is missing or not writable.
        Transient: try later: no space, or an image that could not be written or does not read back.
    """
    if os.path.lexists(target):  # Also true for a link that leads nowhere.
        raise NameInUse(f"{target} exists already and stays as it is")
    if options.pass_phrase is not None:
        check_pass_phrase(options.pass_phrase)
    viewer: tuple[ViewerFile, ...] = ()
    if options.viewer is not None:
        viewer = viewer_files(options.viewer, options.viewer_at, with_autorun=options.viewer_autorun)
    with scratch_beside(target) as scratch, _pool(options.workers) as pool, _full_disk_is_no_space():
        making = Making(target, options, viewer, scratch, pool, progress)
        load = loaded(sources, making)
        written = _written(load, making)
        _publish(written.file, target)
        return _disc(written, load, making)


def _written(load: DiscPlan, making: Making) -> WrittenDisc:
    """Compose, write and read back the disc; with `auto`, a disc slightly too large for a CD becomes a DVD."""
    parts = DiscParts(load.patients, load.pictures, load.left_out, making.viewer, judgement=load.whose)
    may_grow = making.options.media == "auto" and load.medium.name == CD.name
    for number, candidate in enumerate((load.medium, fitted(DVD, making)) if may_grow else (load.medium,)):
        composed = compose(making.scratch / f"files{number}", parts, candidate, making.options)
        try:
            if making.options.container == "zip":
                file, digests = written_archive(composed, making), NOTHING_KNOWN
            else:
                file, digests = written_image(composed, measured(composed, making), making)
        except TooLarge:
            if candidate.name == DVD.name or not may_grow:
                raise
        else:
            return WrittenDisc(composed, file, proven(composed, file, digests, making), load.patients)
    raise AssertionError


def _publish(written: Path, target: Path) -> None:
    """Give the disc its name, which makes it visible; raises NameInUse if a file of that name has appeared."""
    if not give_name(written, target):
        raise NameInUse(f"{target} has appeared meanwhile and stays as it is")
    flush_path(target.parent)


def _disc(one: WrittenDisc, load: DiscPlan, making: Making) -> Disc:
    size = making.target.stat().st_size
    _report(one.composed, load.left_out, size)
    return Disc(
        path=making.target,
        size=size,
        sha256=one.sha256,
        volume_id=one.composed.volume_id,
        medium=one.composed.medium,
        patient=patient_of(one.patients[0].first),
        studies=one.composed.studies,
        instances=instances_of(one.patients),
        left_out=load.left_out,
        duplicates=load.duplicates,
        replaces=making.options.replaces,
        made_at=making.options.made_at,
    )


@contextlib.contextmanager
def _pool(workers: int) -> Iterator[ProcessPool]:
    """Open a pool, whose processes start with its first task, and close it after the block."""
    pool = ProcessPool(workers or os.cpu_count() or 1)
    try:
        yield pool
    finally:
        pool.close()


@contextlib.contextmanager
def _full_disk_is_no_space() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in {errno.ENOSPC, errno.EDQUOT}:
            raise NoSpace("the disk became full while the disc was made") from error
        raise


def _report(composed: ComposedDisc, left_out: Sequence[LeftOut], size: int) -> None:
    """Log what was made, and every object that is not on the disc, by UIDs: a file name may be a person's."""
    for omission in left_out:
        emit(
            Event.LEFT_OUT,
            logging.WARNING,
            volume=composed.volume_id,
            instance=omission.sop_instance_uid,
            reason=omission.reason,
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
