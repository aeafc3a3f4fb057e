"""Decide which received instances belong to a study, how many must come, and whether all have. Pure.

A PACS says it in three ways: by a count, by a list, by the final response to a C-MOVE. Each is wrong in some
products: lists end at a limit, with Success; counts may be of frames; sub-operations are counted twice, or remain
in the final response. Therefore a list names what must be here, the count says whether the list is complete, and
the final response decides only if nothing is listed, or if it reports failures.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.ledger.rows import OrderStudyRow, RetrievalRow

Key = tuple[str, str]  # Series and SOP Instance UID

SUCCESS, WARNING = "0x0000", "0xB000"  # PS3.4 table C.4-2


@dataclass(frozen=True, slots=True)
class FinalResponse:
    """The final response to a C-MOVE for everything an order wants: its status, its counts of sub-operations."""

    status: str
    completed: int = 0
    failed: int = 0
    warned: int = 0
    remaining: int = 0

    @property
    def is_good(self) -> bool:
        """Say whether the PACS reports that it has sent everything."""
        return self.status in {SUCCESS, WARNING} and not self.failed

    @property
    def sent(self) -> set[int]:
        """Return how many instances the PACS may have sent: some PACS count those with a warning as completed."""
        return {self.completed, self.completed + self.warned}

    @property
    def total(self) -> int:
        """Return how many instances the PACS was going to send."""
        return self.completed + self.failed + self.warned + self.remaining


@dataclass(frozen=True, slots=True)
class PacsAnswer:
    """What the PACS says of the part of a study that an order wants; None if it does not say.

    `counted` is Number of Study (or Series) Related Instances, `listed` the answers of an IMAGE level C-FIND.
    """

    counted: int | None = None
    listed: Collection[Key] | None = None
    final: FinalResponse | None = None


@dataclass(frozen=True, slots=True)
class StudyCompleteness:
    """The received instances of a study, compared with what the PACS says.

    `instances` are those that count as the study's. `expected` is how many must come, None if unknown. `overruled`
    is the count of the PACS if its own final response has overruled it. `may_grow` says that all may be here and
    yet more may come; `is_owed`, that the PACS reports having sent more.
    """

    instances: frozenset[Key]
    expected: int | None
    is_complete: bool
    overruled: int | None
    may_grow: bool
    is_owed: bool


def judged(told: PacsAnswer, came: Mapping[Key, int]) -> StudyCompleteness:
    """Judge what came: each distinct instance, with its Number of Frames."""
    instances = _counting(told, came)
    here = len(instances)
    expected, overruled = _expected(told, here, sum(came[key] for key in instances))
    lacks_listed = not instances.issuperset(told.listed or ())
    if expected is None:
        is_enough = told.final is not None and told.final.status == SUCCESS and not told.final.failed
    else:
        is_enough = here >= expected
    is_complete = bool(here) and is_enough and not lacks_listed
    is_known = told.listed is not None or (told.counted is not None and overruled is None)
    return StudyCompleteness(
        instances=instances,
        expected=expected,
        is_complete=is_complete,
        overruled=overruled,
        may_grow=is_complete and not is_known,
        is_owed=_is_good(told) and not is_complete and (lacks_listed or told.listed is None),
    )


def _counting(told: PacsAnswer, came: Mapping[Key, int]) -> frozenset[Key]:
    """Return the instances that count: those the PACS lists, and others as far as it reports more.

    If more came than that, it is unknown which the PACS has sent, and none of the others count.
    """
    if told.listed is None:
        return frozenset(came)
    listed = set(told.listed)
    here, room = came.keys() & listed, max(told.final.sent) - len(listed) if told.final else 0
    return frozenset(came) if len(came) - len(here) <= room else frozenset(here)


def _expected(told: PacsAnswer, here: int, frames: int) -> tuple[int | None, int | None]:
    """Return how many must come, and the count that the final response overrules."""
    final, counted = told.final, told.counted
    if here and counted == frames:
        counted = here if told.listed is None else None  # The count is of frames, and all of these are here.
    if told.listed is None and final and final.is_good and here and here in final.sent:
        return here, counted if counted not in {None, here} else None
    figures = [counted, None if told.listed is None else len(set(told.listed))]
    if final and not (final.is_good and told.listed is not None):
        figures.append(final.total or None)
    return max((figure for figure in figures if figure is not None), default=None), None


def _is_good(told: PacsAnswer) -> bool:
    return told.final is not None and told.final.is_good


def of_wish(
    link: OrderStudyRow, modalities: Sequence[str], move: RetrievalRow | None, came: Mapping[Key, int]
) -> StudyCompleteness:
    """Judge what a retrieval `move` brought for one study `link` of an order, by their rows.

    A retrieval may bring more than an order for some modalities wants: then its final response says nothing.
    """
    is_of_all = move is not None and move.modalities == tuple(modalities)
    told = PacsAnswer(link.counted, link.listed, _final(move) if move is not None and is_of_all else None)
    series = {uid for uid, _, _ in link.series}
    own = {key: frames for key, frames in came.items() if not modalities or key[0] in series}
    return judged(told, own)


def _final(move: RetrievalRow) -> FinalResponse | None:
    # There was no final response, or it was to a C-MOVE of a part.
    if move.status is None or move.announced is None:
        return None
    return FinalResponse(move.status, move.completed, move.failed, move.warned, move.remaining)
