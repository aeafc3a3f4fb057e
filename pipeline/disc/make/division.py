"""Which object goes onto which disc of a set: whole series in the order of the study, disc after disc.

A series is divided only where it alone exceeds a disc; it then begins on a disc of its own, so that it is on as
few discs as can be.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence

from pipeline.disc.errors import TooLarge
from pipeline.disc.formats.image import SECTOR
from pipeline.disc.model import PlaceInSet, SeriesInSet, SeriesUIDs, StudyInSet
from pipeline.disc.objects import records
from pipeline.disc.objects.arrangement import PatientNode, arranged, placed, series_of
from pipeline.disc.objects.entry import Entry
from pipeline.disc.pages.names import set_id
from pipeline.disc.pages.summary import patient_of, study_of

MOST_DISCS = 99  # two digits of the volume identifier
_BESIDE = 2048  # bytes, about: an object's records in DICOMDIR, SHA256.TXT and both directory trees


def divided(patients: Sequence[PatientNode], room: int) -> list[list[Entry]]:
    """Return the objects of each disc, of which `room` bytes can be used.

    Raises TooLarge where one object does not fit on any, or there would be more discs than a set may have.
    """
    discs: list[list[Entry]] = [[]]
    left = room
    for series in series_of(patients):
        entries = [one.entry for one in series.objects]
        needed = sum(map(_cost, entries))
        if needed > left and discs[-1]:
            discs.append([])
            left = room
        for entry in entries:
            cost = _cost(entry)
            if cost > left and discs[-1]:
                discs.append([])
                left = room
            if cost > left:
                raise TooLarge(
                    f"one object of {entry.size:,} bytes is larger than a disc of the set can be",
                    needed_bytes=cost,
                    capacity_bytes=room,
                )
            discs[-1].append(entry)
            left -= cost
    if len(discs) > MOST_DISCS:
        needed = sum(_cost(entry) for disc in discs for entry in disc)
        raise TooLarge(
            f"the set would be of {len(discs)} discs; {MOST_DISCS} are the most",
            needed_bytes=needed,
            capacity_bytes=MOST_DISCS * room,
        )
    return discs


def rearranged(
    discs: Sequence[Sequence[Entry]], *, one_patient: bool
) -> list[tuple[tuple[PatientNode, ...], PlaceInSet]]:
    """Return each disc as a tree of its own, with its place in the set."""
    trees = [arranged(disc, one_patient=one_patient) for disc in discs]
    entries = [entry for disc in discs for entry in disc]
    date = trees[0][0].studies[0].first.text(records.STUDY_DATE)
    named = set_id(date, [entry.sha256 for entry in entries])
    studies = tuple(_studies(arranged(entries, one_patient=one_patient), _places(trees)))
    return [(tree, PlaceInSet(number, len(trees), named, studies)) for number, tree in enumerate(trees, 1)]


def _places(trees: Sequence[Sequence[PatientNode]]) -> dict[SeriesUIDs, Counter[int]]:
    """Return how many objects of each series are on which disc."""
    places: dict[SeriesUIDs, Counter[int]] = defaultdict(Counter)
    for number, tree in enumerate(trees, 1):
        for one in placed(tree):
            places[one.entry.key.study_instance_uid, one.entry.key.series_instance_uid][number] += 1
    return places


def _studies(whole: Sequence[PatientNode], places: Mapping[SeriesUIDs, Counter[int]]) -> Iterator[StudyInSet]:
    for number, patient in enumerate(whole, 1):
        for study in map(study_of, patient.studies):
            yield StudyInSet(
                patient_number=number,
                patient=patient_of(patient.first),
                date=study.date,
                accession_number=study.accession_number,
                description=study.description,
                series=tuple(
                    SeriesInSet(
                        number=series.number,
                        modality=series.modality,
                        description=series.description,
                        places=tuple(sorted(places[study.study_instance_uid, series.series_instance_uid].items())),
                    )
                    for series in study.series
                ),
            )


def _cost(entry: Entry) -> int:
    return -(-entry.size // SECTOR) * SECTOR + _BESIDE
