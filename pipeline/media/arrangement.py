"""The order of a disc: patients, studies, series, objects, and the file each object gets.

Numbers count over the whole disc, so no two records can ever name the same file, and readers that go by
the DICOMDIR read the medium from front to back (docs/adr/0006-disc.md).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.media import records
from pipeline.media.entry import Entry, number
from pipeline.media.guards import Identity

MOST = 999_999  # of each: six digits


@dataclass(frozen=True, slots=True)
class Placed:
    """An object and its place on the disc, `DICOM/ST000001/SE000001/IM000001`."""

    entry: Entry
    file_id: tuple[str, ...]
    ordinal: int  # within its series, from 1

    @property
    def path(self) -> str:
        """Return its path on the disc."""
        return "/".join(self.file_id)


@dataclass(frozen=True, slots=True)
class SeriesNode:
    """A series: its objects in order."""

    objects: tuple[Placed, ...]
    ordinal: int  # within its study


@dataclass(frozen=True, slots=True)
class StudyNode:
    """A study: its series in order."""

    series: tuple[SeriesNode, ...]

    @property
    def first(self) -> Entry:
        """Return the object whose attributes speak for the study."""
        return self.series[0].objects[0].entry


@dataclass(frozen=True, slots=True)
class PatientNode:
    """A patient: the studies in order."""

    studies: tuple[StudyNode, ...]

    @property
    def first(self) -> Entry:
        """Return the object whose attributes speak for the patient."""
        return self.studies[0].first


Tree = tuple[PatientNode, ...]


def arranged(entries: Sequence[Entry], *, one_patient: bool) -> tuple[PatientNode, ...]:
    """Return the objects as a tree. `one_patient` says that the guard has found them all of one."""
    if len(entries) > MOST:
        raise ValueError(f"a disc holds {MOST} objects at most")
    counters = _Counters()
    patients: dict[tuple[str, str], list[Entry]] = defaultdict(list)
    for entry in entries:
        identity = Identity.of(entry)
        patients["" if one_patient else identity.patient_id, "" if one_patient else identity.issuer].append(entry)
    return tuple(_patient(patients[key], counters) for key in sorted(patients))


def series_of(patients: Sequence[PatientNode]) -> Iterator[SeriesNode]:
    """Yield every series in the order of the disc."""
    for patient in patients:
        for study in patient.studies:
            yield from study.series


def placed(patients: Sequence[PatientNode]) -> Iterator[Placed]:
    """Yield every object in the order of the disc."""
    for series in series_of(patients):
        yield from series.objects


@dataclass
class _Counters:
    studies: int = 0
    series: int = 0
    objects: int = 0


def _patient(entries: Sequence[Entry], counters: _Counters) -> PatientNode:
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.key.study_instance_uid].append(entry)
    studies = sorted(groups.values(), key=_study_order)
    return PatientNode(tuple(_study(study, counters) for study in studies))


def _study_order(entries: Sequence[Entry]) -> tuple[str, str, str]:
    first = entries[0]
    return first.text(records.STUDY_DATE), first.text(records.STUDY_TIME), first.key.study_instance_uid


def _study(entries: Sequence[Entry], counters: _Counters) -> StudyNode:
    counters.studies += 1
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.key.series_instance_uid].append(entry)
    ordered = sorted(groups.values(), key=_series_order)
    return StudyNode(tuple(_series(series, place, counters) for place, series in enumerate(ordered, 1)))


def _series_order(entries: Sequence[Entry]) -> tuple[bool, int, str]:
    first = entries[0]
    found = number(first.values.get(records.SERIES_NUMBER, b""))
    return found is None, found or 0, first.key.series_instance_uid


def _series(entries: Sequence[Entry], ordinal: int, counters: _Counters) -> SeriesNode:
    counters.series += 1
    folder = ("DICOM", f"ST{counters.studies:06d}", f"SE{counters.series:06d}")
    objects = []
    for place, entry in enumerate(sorted(entries, key=_object_order), 1):
        counters.objects += 1
        objects.append(Placed(entry, (*folder, f"IM{counters.objects:06d}"), place))
    return SeriesNode(tuple(objects), ordinal)


def _object_order(entry: Entry) -> tuple[bool, int, str]:
    found = number(entry.values.get(records.INSTANCE_NUMBER, b""))
    return found is None, found or 0, entry.key.sop_instance_uid
