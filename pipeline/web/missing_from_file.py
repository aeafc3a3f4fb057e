"""What is missing from the file of an order, in words: nobody may take it for complete if it is not. Pure."""

from collections import Counter

from pipeline.model import LeftOutCode
from pipeline.orders import OrderView
from pipeline.web.translations import Translation

_TOLD = frozenset(  # Codes with a sentence of their own; for the others technical support reads the reason.
    {LeftOutCode.KIND, LeftOutCode.COMPRESSED, LeftOutCode.FILM, LeftOutCode.LARGE, LeftOutCode.DAMAGED}
)


def falls_short(view: OrderView) -> bool:
    """Tell whether something that was asked for is not in the file."""
    return bool(view.left_out or view.missing or _not_received(view))


def shortfall(view: OrderView, words: Translation) -> tuple[str, ...]:
    """Return a line for each kind of missing thing, with its count."""
    lines = []
    if count := _not_received(view):
        lines.append(words.count("short.not_received", count))
    if view.missing:
        lines.append(words.say("short.missing", accessions=", ".join(view.missing)))
    kinds: Counter[str] = Counter()
    for one in view.left_out:
        kinds[one.code if one.code in _TOLD else LeftOutCode.OTHER] += one.instances
    for kind, count in kinds.most_common():
        key = f"short.left_out_{'one' if count == 1 else 'many'}"
        lines.append(words.say(key, count=count, what=words.say(f"short.why_{kind}")))
    return tuple(lines)


def _not_received(view: OrderView) -> int:
    return max(0, (view.expected or 0) - view.received)
