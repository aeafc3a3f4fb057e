"""The order of a disc: patients, studies, series, objects, and the file name of each object.

Numbers count over the whole disc, so no two records can name the same file, and readers that follow the DICOMDIR
read the medium from front to back (docs/adr/0006-disc.md).
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.dicom.person_names import comparable_name
from pipeline.disc.objects import records
from pipeline.disc.objects.entry import Entry, number
from pipeline.disc.objects.one_patient import patient_of

MOST = 999_999  # Objects of a disc at most: the numbers in their file names have six digits.
_OF_PATIENT = (records.PATIENT_ID, records.PATIENT_NAME, records.ISSUER, records.BIRTH_DATE, records.SEX)
_OF_STUDY = (records.STUDY_DATE, records.STUDY_TIME, records.ACCESSION, records.STUDY_DESCRIPTION)


@dataclass(frozen=True, slots=True)
class ObjectPath:
    """An object and its place on the disc, `DICOM/ST000001/SE000001/IM000001`."""

    entry: Entry
    file_id: tuple[str, ...]
    ordinal: int  # Number within its series, from 1.

    @property
    def path(self) -> str:
        """Return its path on the disc."""
        return "/".join(self.file_id)


@dataclass(frozen=True, slots=True)
class SeriesNode:
    """A SERIES directory record: its objects in order."""

    objects: tuple[ObjectPath, ...]
    ordinal: int  # Number within its study.


@dataclass(frozen=True, slots=True)
class StudyNode:
    """A STUDY directory record: its series in order; its keys come from the object `first`."""

    series: tuple[SeriesNode, ...]
    first: Entry


@dataclass(frozen=True, slots=True)
class PatientNode:
    """A PATIENT directory record: the studies in order; its keys come from the object `first`."""

    studies: tuple[StudyNode, ...]
    first: Entry


Tree = tuple[PatientNode, ...]


def arranged(entries: Sequence[Entry], *, one_patient: bool) -> tuple[PatientNode, ...]:
    """Return the objects as a tree; raises ValueError if they are more than MOST.

    `one_patient` says that the patient check has found a single patient.
    """
    if len(entries) > MOST:
        raise ValueError(f"a disc holds {MOST} objects at most")
    counters = _Counters()
    people = [list(entries)] if one_patient else _people(entries)
    return tuple(_patient(person, counters) for person in people)


def _people(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Return the objects of each person; each study belongs to one person, as the patient check has found.

    Studies belong to the same person if all their patient attributes are equal and there is a Patient ID: two
    persons in one record would be worse than one person in two.
    """
    people: dict[tuple[str, ...], list[Entry]] = defaultdict(list)
    for uid, study in _by_study(entries).items():
        who = patient_of(representative(study, _OF_PATIENT))
        name = comparable_name(who.name)
        people[who.identifier, who.issuer, name, who.birth_date, "" if who.identifier else uid] += study
    return [people[key] for key in sorted(people)]


def _by_study(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    studies: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        studies[entry.key.study_instance_uid].append(entry)
    return studies


def representative(entries: Sequence[Entry], tags: Sequence[int]) -> Entry:
    """Return the first object that has the most of these attributes: reports often leave some empty."""
    return max(entries, key=lambda entry: sum(bool(entry.values.get(tag)) for tag in tags))


def series_of(patients: Sequence[PatientNode]) -> Iterator[SeriesNode]:
    """Yield every series in the order of the disc."""
    for patient in patients:
        for study in patient.studies:
            yield from study.series


def placed(patients: Sequence[PatientNode]) -> Iterator[ObjectPath]:
    """Yield every object in the order of the disc."""
    for series in series_of(patients):
        yield from series.objects


@dataclass
class _Counters:
    studies: int = 0
    series: int = 0
    objects: int = 0


def _patient(entries: Sequence[Entry], counters: _Counters) -> PatientNode:
    studies = sorted(_by_study(entries).values(), key=_study_order)
    return PatientNode(tuple(_study(study, counters) for study in studies), representative(entries, _OF_PATIENT))


def _study_order(entries: Sequence[Entry]) -> tuple[str, str, str]:
    first = representative(entries, _OF_STUDY)
    return first.text(records.STUDY_DATE), first.text(records.STUDY_TIME), first.key.study_instance_uid


def _study(entries: Sequence[Entry], counters: _Counters) -> StudyNode:
    counters.studies += 1
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.key.series_instance_uid].append(entry)
    ordered = sorted(groups.values(), key=_series_order)
    series = tuple(_series(one, place, counters) for place, one in enumerate(ordered, 1))
    return StudyNode(series, representative(entries, _OF_STUDY))


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
        objects.append(ObjectPath(entry, (*folder, f"IM{counters.objects:06d}"), place))
    return SeriesNode(tuple(objects), ordinal)


def _object_order(entry: Entry) -> tuple[bool, int, str]:
    found = number(entry.values.get(records.INSTANCE_NUMBER, b""))
    return found is None, found or 0, entry.key.sop_instance_uid
