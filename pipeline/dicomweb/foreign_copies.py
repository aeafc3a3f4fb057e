"""Compare instances that somebody else stored at the archive under the UIDs we were to send.

A UID in the archive proves nothing about the content, and our original may be the only copy of it.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.dicomweb import instance_outcome, wado
from pipeline.dicomweb.http_client import HttpClient
from pipeline.errors import Permanent, Transient
from pipeline.model import Consignment, ContentComparison, Item, Receipt, ReceiptState

SCRATCH = "copy-"  # Prefix of the folders in which copies from the archive are compared.
OTHER = "the archive holds something else under this UID"
_MOST_KEYWORDS = 20  # Most keywords in one message.


def anothers(
    items: Iterable[Item], door: HttpClient, studies_url: str, consignment: Consignment, *, believes: bool
) -> Iterator[Receipt]:
    """Yield the receipt of each of `items`, which the archive has although we never sent them.

    With `believes` they count as the same without a comparison. An instance that cannot be compared now stays
    pending, and so do all after it, because the archive may be slow.
    """
    not_now = ""
    for item in items:
        if believes:
            yield instance_outcome.seen(item, ReceiptState.PRESENT)
            continue
        try:
            if not not_now:
                yield _compared(item, door, studies_url, consignment)
                continue
        except Transient as error:
            not_now = f"it is there, and cannot be compared now: {error}"
        yield instance_outcome.pending(item, "WADO-RS", not_now)


def _compared(item: Item, door: HttpClient, studies_url: str, consignment: Consignment) -> Receipt:
    """Return the receipt after comparing the archive's copy; without a copy, it says that nothing was compared."""
    try:
        wado.require_comparable(item)
        with tempfile.TemporaryDirectory(prefix=SCRATCH, dir=consignment.scratch) as folder:
            copy = wado.copy_at(door, studies_url, item.key, Path(folder))
            found = consignment.compare(item.path, copy)
    except Permanent as reason:
        return instance_outcome.present(
            item, f"not compared with what the archive holds: {reason}", verified=False
        )
    if found.is_same:
        return instance_outcome.present(item, _in_words("the archive's copy differs in", found), verified=True)
    return instance_outcome.refused(item, "WADO-RS", _in_words(f"{OTHER}: it differs in", found))


def _in_words(what: str, found: ContentComparison) -> str:
    """Return the attributes that differ, by keyword, because their values may name the patient."""
    more = len(found.differing) - _MOST_KEYWORDS
    named = ", ".join(found.differing[:_MOST_KEYWORDS])
    return f"{what} {named}{f' and {more} more' if more > 0 else ''}" if named else ""
