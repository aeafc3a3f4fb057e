"""Make a numbered set of discs, each complete in itself: all of them or none."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.disc.errors import NotAsWritten, TooLarge
from pipeline.disc.make.composition import Composed, Parts, compose
from pipeline.disc.make.division import divided, rearranged
from pipeline.disc.make.loading import OVERHEAD, Load
from pipeline.disc.make.writing import Making, Written, measured, proven, written_image
from pipeline.disc.model import PlaceInSet
from pipeline.disc.objects.arrangement import Tree, series_of
from pipeline.disc.pages.summary import instances_of

_TRIES = 8  # of dividing a set, each time with less room a disc


@dataclass(frozen=True, slots=True)
class _Ready:
    """One disc of the set, ready to be written as an image of exactly `size` bytes."""

    patients: Tree
    place: PlaceInSet
    composed: Composed
    size: int


def made_set(load: Load, making: Making) -> list[Written]:
    """Return every disc of the set, read back; together they hold every object exactly once.

    Raises TooLarge where one object alone exceeds a disc, and what writing raises.
    """
    written = []
    for one in _composed_set(load, making):
        file = written_image(one.composed, one.size, making, _name(one.place))
        written.append(Written(one.composed, file, proven(one.composed, file, making), one.patients, one.place))
    _check_set(written, load)
    return written


def _composed_set(load: Load, making: Making) -> list[_Ready]:
    """Return every disc of the set with its exact size; the room is taken smaller until every one fits."""
    capacity = load.medium.capacity_bytes
    assert capacity is not None
    beside = OVERHEAD + sum(file.size for file in making.viewer)
    one_patient = not making.options.allow_several_patients
    for attempt in range(_TRIES):
        trees = rearranged(divided(load.patients, capacity - beside), one_patient=one_patient)
        try:
            return [_composed(tree, place, attempt, load, making) for tree, place in trees]
        except TooLarge as error:
            beside += error.needed_bytes - error.capacity_bytes + OVERHEAD
    raise TooLarge(
        "no division was found in which every disc of the set fits",
        needed_bytes=capacity + beside,
        capacity_bytes=capacity,
    )


def _composed(tree: Tree, place: PlaceInSet, attempt: int, load: Load, making: Making) -> _Ready:
    keys = (one.objects[0].entry.key for one in series_of(tree))
    shown = {(key.study_instance_uid, key.series_instance_uid) for key in keys}
    found = {uids: picture for uids, picture in load.pictures.items() if uids in shown}
    parts = Parts(tree, found, load.left_out, making.viewer, place)
    folder = making.scratch / f"files-{attempt}-{place.number}"
    composed = compose(folder, parts, load.medium, making.options)
    return _Ready(tree, place, composed, measured(composed, making, _name(place)))


def _name(place: PlaceInSet) -> str:
    return f"image{place.number}"


def _check_set(written: Sequence[Written], load: Load) -> None:
    """Every object of the study is on one disc of the set, and on one only."""
    on_discs = Counter(one.key for disc in written for one in instances_of(disc.patients))
    meant = {one.key for one in instances_of(load.patients)}
    if on_discs.keys() != meant or any(count != 1 for count in on_discs.values()):
        raise NotAsWritten("the discs of the set do not hold every object exactly once")
