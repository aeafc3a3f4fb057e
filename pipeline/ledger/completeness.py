"""How many instances a study has, as far as a PACS can be believed, and whether all of them have come: pure.

A list names what exists, so it goes before a mere number, which may be old. The final response to a C-MOVE of
the whole study can only raise the expectation: what the PACS set out to send and failed to is missing too.
"""

from collections.abc import Collection


def expected(counted: int | None, listed: int | None, announced: int | None) -> int | None:
    """Return how many distinct instances must come, None where nobody says.

    `counted` is Number of Study (or Series) Related Instances, `listed` the answers of an IMAGE level C-FIND,
    `announced` all sub-operations of the final C-MOVE response.
    """
    known = listed if listed is not None else counted
    figures = [figure for figure in (known, announced) if figure is not None]
    return max(figures, default=None)


def is_complete(
    held: Collection[tuple[str, str]], must_come: int | None, listed: Collection[tuple[str, str]] | None
) -> bool:
    """Tell whether what is held, by Series and SOP Instance UID, is all there is; nothing is never complete."""
    distinct = set(held)
    return bool(distinct) and len(distinct) >= (must_come or 1) and distinct.issuperset(listed or ())
