"""Plan a disc: read every source file once, check its patient, choose the medium, decode."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path

from pipeline.dicom.same_patient import Judgement
from pipeline.disc.errors import NothingForDisc
from pipeline.disc.formats.parallel import spread
from pipeline.disc.formats.scratch import check_space
from pipeline.disc.make.writing import Making, check_capacity
from pipeline.disc.model import ANY, CD, DVD, MEDIA, VIDEO, LeftOut, Medium, SeriesUIDs, SourceFile
from pipeline.disc.objects.arrangement import Tree, arranged
from pipeline.disc.objects.conversion import converted, must_be_converted, size_on
from pipeline.disc.objects.entry import WANTED, Entry, Unfit, UnreadableObject, entry_of
from pipeline.disc.objects.one_patient import check_patient
from pipeline.disc.objects.raw import LARGEST_FILE, ReadTask, raws
from pipeline.disc.pages.thumbnails import pictures
from pipeline.model import InstanceKey, LeftOutCode
from pipeline.processes.limits import SMALLEST_BOUND
from pipeline.processes.process_pool import ProcessPool

MANY = 2000  # Files; starting the pool's processes takes longer than reading fewer files in this process.
_BATCH = 32  # Files.
_LARGEST_MAPPED = SMALLEST_BOUND // 2  # Bytes; this process reads larger files itself.
_PIECE = 1 << 20  # Bytes compared at once.
OVERHEAD = 1 << 20  # Bytes, estimated, for descriptors, directories and the small files of an image.


@dataclass(slots=True)
class SourceObjects:
    """The objects in the sources. `entries` has each key once, and includes objects that cannot be on a disc.

    `others` have the UIDs of an entry but other content. `left_out` names these, and files that are no objects.
    `duplicates` counts the repetitions of an entry.
    """

    entries: list[Entry] = field(default_factory=list)
    others: list[Entry] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    duplicates: int = 0


def survey(
    sources: Sequence[SourceFile], scratch: Path, pool: ProcessPool, progress: Callable[[int], None]
) -> SourceObjects:
    """Read the sources and return their objects; a file is hashed unless its SHA-256 is known.

    `progress` gets the number of files read so far. Raises Transient and OSError as `raw` does.
    """
    found = SourceObjects()
    known: dict[InstanceKey, Entry] = {}
    strings: dict[bytes, bytes] = {}
    batches = [sources[at : at + _BATCH] for at in range(0, len(sources), _BATCH)]
    tasks = (ReadTask(tuple((file.path, file.sha256) for file in batch), WANTED, scratch) for batch in batches)
    is_for_processes = len(sources) > MANY and all(map(_may_be_mapped, sources))
    answers = spread(raws, tasks, pool if is_for_processes else None)
    for number, (source, raw) in enumerate(zip(sources, chain.from_iterable(answers), strict=True), 1):
        try:
            _enter(_as_known(entry_of(source.path, raw, strings), source), known, found)
        except UnreadableObject as reason:
            found.left_out.append(LeftOut(source.path, source.key, reason.code, str(reason)))
        progress(number)
    return found


def _may_be_mapped(source: SourceFile) -> bool:
    """Tell whether a process with bounded memory can map the file; a missing file counts as small."""
    try:
        return source.path.stat().st_size <= _LARGEST_MAPPED
    except OSError:
        return True


def _as_known(entry: Entry, source: SourceFile) -> Entry:
    """Return the object; raises UnreadableObject if its UIDs are not those the ledger has for the file."""
    if source.key not in {None, entry.key}:
        words = "its file holds another object than the one it is known for"
        raise UnreadableObject(words, LeftOutCode.OTHER_CONTENT)
    return entry


def _enter(entry: Entry, known: dict[InstanceKey, Entry], found: SourceObjects) -> None:
    first = known.setdefault(entry.key, entry)
    if first is entry:
        found.entries.append(entry)
    elif (first.sha256 and first.sha256 == entry.sha256) or _same_data_set(first, entry):
        found.duplicates += 1
    else:
        reason = "another file of the same UIDs came first and is there; this one differs from it"
        found.left_out.append(LeftOut(entry.source, entry.key, LeftOutCode.OTHER_CONTENT, reason))
        found.others.append(entry)


def _same_data_set(one: Entry, other: Entry) -> bool:
    """Tell whether the data sets of two files are equal; file meta information, with the sender, may differ."""
    if one.size - one.data_set != other.size - other.data_set:
        return False
    with one.path.open("rb") as first, other.path.open("rb") as second:
        first.seek(one.data_set)
        second.seek(other.data_set)
        while piece := first.read(_PIECE):
            if piece != second.read(_PIECE):
                return False
    return True


@dataclass(frozen=True, slots=True)
class DiscPlan:
    """The contents of a disc, before it is written."""

    patients: Tree
    pictures: dict[SeriesUIDs, bytes]
    left_out: tuple[LeftOut, ...]
    duplicates: int
    medium: Medium
    whose: Judgement


def loaded(sources: Sequence[SourceFile], making: Making) -> DiscPlan:
    """Read every source, check the patient, choose the medium, and decode what the medium does not allow.

    Nothing of the disc is written yet. Raises NoDisc if there can be no disc of these sources, and NoSpace or
    another Transient if it can be made later.
    """
    options, progress = making.options, making.progress
    found = survey(sources, making.scratch, making.pool, lambda done: progress("read", done, len(sources)))
    whose = check_patient(
        [*found.entries, *found.others],
        placeholders=options.placeholders,
        allow_several_patients=options.allow_several_patients,
        allow_no_patient_id=options.allow_no_patient_id,
    )
    fit = [entry for entry in found.entries if entry.unfit is None]
    medium = _medium(fit, making)
    ready, not_decoded = _converted(fit, medium, making)
    unfit = [LeftOut(entry.source, entry.key, *entry.unfit) for entry in found.entries if entry.unfit]
    left_out = [*options.missing, *found.left_out, *unfit, *not_decoded]
    if not ready:
        raise NothingForDisc(_why_nothing(left_out))
    patients = arranged(ready, one_patient=not options.allow_several_patients)
    shown = pictures(patients, making.pool)
    return DiscPlan(patients, shown, tuple(left_out), found.duplicates, medium, whose)


def _why_nothing(left_out: Sequence[LeftOut]) -> str:
    if not left_out:
        return "nothing was given that could be on a disc"
    (reason, count), *_ = Counter(omission.reason for omission in left_out).most_common(1)
    return f"none of {len(left_out)} files can be on a disc; {count} of them: {reason}"


def fitted(medium: Medium, making: Making) -> Medium:
    """Return the medium with the capacity that the site has configured, if the medium has a limit at all."""
    capacity = making.options.capacity_bytes
    is_limited = medium.capacity_bytes is not None and capacity is not None
    return replace(medium, capacity_bytes=capacity) if is_limited else medium


def _medium(entries: Sequence[Entry], making: Making) -> Medium:
    """Return the medium that was asked for; with `auto`, a CD if the objects fit, otherwise a DVD."""
    wanted = making.options.media
    if wanted != "auto":
        return fitted(MEDIA[wanted], making)
    if making.options.container == "zip":
        return ANY
    small = fitted(CD, making)
    if any(entry.transfer_syntax_uid in VIDEO for entry in entries):  # A CD must not contain video.
        return fitted(DVD, making)
    return small if _estimate(entries, small, making) <= (small.capacity_bytes or 0) else fitted(DVD, making)


def _estimate(entries: Sequence[Entry], medium: Medium, making: Making) -> int:
    return sum(size_on(entry, medium) for entry in entries) + sum(file.size for file in making.viewer) + OVERHEAD


def _converted(entries: Sequence[Entry], medium: Medium, making: Making) -> tuple[list[Entry], list[LeftOut]]:
    """Decode the objects that the medium does not allow; return the objects for the disc, and those left out.

    Raises TooLarge and NoSpace before it decodes anything, because decoding may take an hour.
    """
    entries, unfit = _without_unfit(entries, medium)
    to_convert = [entry for entry in entries if must_be_converted(entry, medium)]
    estimate = _estimate(entries, medium, making)
    check_capacity(estimate - OVERHEAD, medium)
    check_space(making.scratch, sum(size_on(entry, medium) for entry in to_convert) + estimate)
    ready, not_decoded = converted(
        entries,
        medium,
        making.scratch,
        making.pool,
        lambda done: making.progress("decode", done, len(to_convert)),
    )
    return ready, [*unfit, *not_decoded]


def _without_unfit(entries: Sequence[Entry], medium: Medium) -> tuple[list[Entry], list[LeftOut]]:
    """Leave out objects that cannot be on this medium: video on a CD, and objects too large once decoded.

    The size comes from the header, which may be wrong.
    """
    fit, left_out = [], []
    for entry in entries:
        if unfit := _unfit(entry, medium):
            left_out.append(LeftOut(entry.source, entry.key, *unfit))
        else:
            fit.append(entry)
    return fit, left_out


def _unfit(entry: Entry, medium: Medium) -> Unfit | None:
    if not must_be_converted(entry, medium):
        return None
    if entry.transfer_syntax_uid in VIDEO:
        if entry.transfer_syntax_uid in medium.allows:
            return None
        words = f"a film, which a {medium.name.upper()} cannot have; a DVD or a USB stick can"
        return Unfit(LeftOutCode.FILM, words)
    if entry.native_size > LARGEST_FILE:
        words = f"by its header it would be {entry.native_size:,} bytes once decoded, too large for one file"
        return Unfit(LeftOutCode.LARGE, words)
    return None
