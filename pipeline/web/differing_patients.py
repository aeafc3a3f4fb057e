"""What the page of an order says about differing patients: the sources, the attributes, whom to ask; no values.

Pure.
"""

from collections.abc import Iterable

from pipeline.languages import Translation
from pipeline.model import OrderError
from pipeline.orders import OrderView
from pipeline.orders.compare_sources import Findings, HisAnswer, IdentitySource, SourceDifference

_MOST_LINES = 10


def key_of(view: OrderView) -> str:
    """Return the key in the translations for the refusal of this order."""
    between = {difference.between for difference in view.differing}
    if not between:
        return str(OrderError.MORE_THAN_ONE_PATIENT)
    if any(len(sources) == 1 for sources in between):
        several = (
            len({difference.accession_number for difference in view.differing if len(difference.between) == 1}) > 1
        )
        return str(OrderError.MORE_THAN_ONE_PATIENT) if several else "one-study-of-two"
    return (
        "images-of-another" if any(IdentitySource.IMAGES in sources for sources in between) else "named-otherwise"
    )


def differing(view: OrderView, words: Translation) -> tuple[str, ...]:
    """Return one line for each difference that ended the order, or would have ended it."""
    return _lines(view.differing, words)


def noted(view: OrderView, words: Translation) -> tuple[str, ...]:
    """Return differences that did not stop the order, and whether the HIS could be asked."""
    lines = [*_lines(view.noted, words)]
    if view.identity_allowed and view.differing:
        lines = [words.say("whose.let_through"), *differing(view, words), *lines]
    if view.accession_differs:
        lines.append(words.count("whose.other_number", view.accession_differs))
    if view.his in {HisAnswer.NOT_ASKED, HisAnswer.UNKNOWN}:
        lines.append(words.say(f"whose.his_{view.his.replace(' ', '_')}"))
    return tuple(lines)


def may_be_let_through(view: OrderView) -> bool:
    """Say whether a person may override what ended this order: two sources differ, and each is consistent."""
    is_it = view.error_kind == OrderError.MORE_THAN_ONE_PATIENT and bool(view.differing)
    return is_it and Findings(view.differing).may_be_allowed


def _lines(differences: Iterable[SourceDifference], words: Translation) -> tuple[str, ...]:
    found = dict.fromkeys(_line(difference, words) for difference in differences)
    return tuple(found)[:_MOST_LINES]


def _line(one: SourceDifference, words: Translation) -> str:
    attributes = ", ".join(words.say(f"whose.{attribute}") for attribute in one.attributes)
    between = "-".join(one.between)
    return words.say(f"whose.{between}", accession=one.accession_number, attributes=attributes)
