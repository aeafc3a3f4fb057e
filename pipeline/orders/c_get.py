"""Receive by C-GET: getscu writes into a folder with an envelope, and a rename then admits it as any other folder.

The name of the folder hides it from the sweep while getscu writes there.
"""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from pipeline.ledger.rows import RetrievalRow
from pipeline.orders.reception_progress import WRITING, end_writers
from pipeline.receiving import sweep
from pipeline.site.site import Site
from pipeline.spool.durable import rename
from pipeline.spool.envelope import Envelope, write_envelope


@contextlib.contextmanager
def received_into(row: RetrievalRow, site: Site) -> Iterator[Path]:
    """Yield a folder into which getscu receives a retrieval; admit it when the block ends, also after an error."""
    pacs = site.settings.pacs
    assert pacs is not None
    folder = site.spool.prepare_receiver(pacs.receiver) / f"{WRITING}{time.time_ns()}_{row.id}"
    folder.mkdir(mode=0o750)
    envelope = Envelope(
        calling_ae_title=pacs.ae_title,
        called_ae_title=pacs.calling_ae_title,
        peer=None,
        receiver=pacs.receiver,
        opened_at_ns=time.time_ns(),
        retrieval=row.id,
    )
    write_envelope(folder, envelope)
    try:
        yield folder
    finally:
        _hand_over(folder)


def _hand_over(folder: Path) -> None:
    finished = folder.with_name(f"A_{folder.name.removeprefix(WRITING)}")
    try:
        rename(folder, finished)
    except FileNotFoundError:  # Another worker, which has taken the retrieval over, has admitted it.
        return
    sweep.take(finished.parent, finished)


def take_leftovers(site: Site) -> None:
    """End every getscu that a dead worker has left, and admit what it has received."""
    pacs = site.settings.pacs
    if pacs is None:
        return
    for folder in sorted(site.spool.incoming_of(pacs.receiver).glob(f"{WRITING}*")):
        end_writers(folder)
        _hand_over(folder)
