"""Send files from this machine's disk to a destination, as an order of its own (`storestow send`).

The files are copied into a folder, which is admitted by a rename as any other. Their scope is this order alone, so
that they conflict with no other instance. Files from the spool are treated like their receiver's instances.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from pipeline import engine
from pipeline.errors import Transient, Usage
from pipeline.events import Event, emit
from pipeline.ledger import Ledger, orders
from pipeline.line.admit import parse_arrival_name
from pipeline.line.identify import ACCOUNT
from pipeline.model import SEND_VERB
from pipeline.orders import PlacedOrder
from pipeline.receiving.sweep import signature_of
from pipeline.site.settings import Settings
from pipeline.site.site import SEND, Site
from pipeline.spool.durable import remove_tree, rename
from pipeline.spool.envelope import Envelope, write_envelope
from pipeline.spool.spool import Spool, admit

GONE = "D_"  # Prefix of a folder being deleted, which the sweep ignores.
COPYING = ".C_"  # Prefix of an incomplete folder, which the sweep ignores and which is never admitted.


def send(  # noqa: PLR0913  # what may be asked for, each by its name
    ledger: Ledger,
    settings: Settings,
    paths: Sequence[Path],
    destination: str,
    *,
    receiver: str | None = None,
    again: bool = False,
    several_patients: bool = False,
    now: float | None = None,
) -> PlacedOrder:
    """Place an order that sends these files, and all below these folders, by the rules of `receiver`.

    `again` also sends instances that the destination has, or had, from us. `several_patients` allows several
    patients, each with studies of their own, unless the destination makes one file. Raises Usage if there is
    nothing to send or the files are of several receivers, Configuration for an unknown destination or receiver,
    and Transient if the files cannot be copied now.
    """
    spool = settings.spool
    settings.destination_named(destination)
    files = sorted(set(_files(paths)))
    if not files:
        raise Usage("there is no file to send")
    as_receiver = receiver or _receiver_of(files, spool)
    if as_receiver:
        settings.receiver_named(as_receiver)
    wish: dict[str, Any] = {
        "key": f"{SEND_VERB}:{uuid4()}",  # The key is unique, so the order is never shared.
        "verb": SEND_VERB,
        "accessions": [],
        "modalities": [],
        "destination": destination,
        "receiver": as_receiver,
        "files": len(files),
        "again": again,
        "several_patients": several_patients,
    }
    with ledger.transaction() as connection:
        number = orders.enter(connection, now=time.time() if now is None else now, **wish)
        ledger.engine.ring(connection, engine.ORDERS)
    emit(Event.ORDERED, order=number, verb=SEND_VERB, files=len(files), destination=destination)
    _hand_in(files, number, spool)
    spool.wake_worker()
    return PlacedOrder(number, is_new=True)


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    """Yield every file, also below folders, except hidden files and our accounts there; raises Usage."""
    for path in paths:
        if path.is_dir():
            for parent, folders, names in os.walk(path):
                folders[:] = [name for name in folders if not name.startswith(".")]
                yield from (Path(parent, name).resolve() for name in names if _is_sent(Path(parent, name)))
        elif path.is_file():
            yield path.resolve()
        else:
            raise Usage(f"{path} is neither a file nor a folder")


def _is_sent(path: Path) -> bool:
    return not path.name.startswith(".") and path.name != ACCOUNT and path.is_file()


def _receiver_of(files: Iterable[Path], spool: Spool) -> str | None:
    """Return the receiver in whose arrivals these files are, None if in none; raises Usage for several."""
    rooms = [room.resolve() for room in spool.rooms_of_arrivals]
    found = {parse_arrival_name(file.parent.name)[1] if file.parent.parent in rooms else None for file in files}
    if len(found) > 1:
        raise Usage("these files came by several receivers, or some by none: send them one after the other")
    (receiver,) = found
    return receiver


def _hand_in(files: Sequence[Path], number: int, spool: Spool) -> None:
    incoming = spool.prepare_receiver(SEND)
    name = f"{time.time_ns()}_{number}"
    folder, complete = incoming / f"{COPYING}{name}", incoming / f"A_{name}"
    try:
        folder.mkdir(mode=0o750)
        for position, file in enumerate(files):
            shutil.copyfile(file, folder / f"{position:05d}")
        envelope = Envelope(calling_ae_title="", called_ae_title="", peer=None, order=number)
        write_envelope(folder, envelope)
        rename(folder, complete)
    except OSError as error:
        remove_tree(folder, ignore_errors=True)
        raise Transient(f"the files cannot be copied: {error}") from error
    admit(incoming, complete)


def admit_complete(spool: Spool) -> None:
    """Admit the complete copies that a killed `send` has left."""
    incoming = spool.incoming_of(SEND)
    for folder in sorted(incoming.glob("A_*")):
        admit(incoming, folder)


def expire(site: Site, now: float) -> None:
    """Delete, after `keep_results`, copies that a killed `send` has left and that were not admitted.

    `now` is in seconds since the epoch. The folder is renamed first: a `send` that was only suspended then fails
    instead of admitting an incomplete copy.
    """
    moment = now - site.settings.site.keep_results.total_seconds()
    folder = site.spool.incoming_of(SEND)
    for left in folder.iterdir() if folder.is_dir() else ():
        with contextlib.suppress(FileNotFoundError):  # The folder was admitted meanwhile.
            if max(left.stat().st_mtime_ns, signature_of(left).newest_ns) < moment * 1e9:
                gone = left.with_name(f"{GONE}{left.name.removeprefix(GONE)}")
                rename(left, gone)
                remove_tree(gone, ignore_errors=True)
