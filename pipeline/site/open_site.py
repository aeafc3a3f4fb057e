"""Open the site: read its whole configuration, refuse mistakes, and only then start."""

import contextlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.coercions import rules_of
from pipeline.config import institutions
from pipeline.config.institutions import Institutions
from pipeline.errors import Configuration, Transient
from pipeline.events import Event, alarm, emit
from pipeline.ledger import REBUILT, SPOOL, Ledger, open_ledger
from pipeline.processes.process_pool import ProcessPool
from pipeline.processes.service_manager import READY, kept_waiting, notify
from pipeline.site import worker_refusal
from pipeline.site.node import claimant_of
from pipeline.site.settings import Settings
from pipeline.site.site import Site
from pipeline.site.site_ledger import connect, engine_of, server_of
from pipeline.site.worker_state import sole_worker

LONGEST_OPENING_SECONDS = 3600.0  # Gigabytes may be checked, or copied for an upgrade.


@contextmanager
def opened(settings: Settings) -> Iterator[Site]:
    """Open the site for the one worker on this spool.

    Raises:
        Configuration: something is wrong, or another worker holds the spool.
        Transient: the disk, the store or the ledger cannot be used now.
    """
    rules = rules_of(settings)
    spool = settings.spool
    spool.prepare()
    for receiver in settings.receiver:
        if receiver.mode == "external":  # `storestow receive` creates the folders of other receivers.
            spool.prepare_receiver(receiver.name)
    with sole_worker(spool):
        notify(READY)
        with kept_waiting(LONGEST_OPENING_SECONDS), spool.in_use():
            _require_known_store(settings)
            spool.prepare_store()
            engine = engine_of(settings, of_worker=True)
            ledger, was_lost = open_ledger(spool.store, server_of(settings), engine)
        worker_refusal.forget(spool)
        rebuilt_at = _rebuilt_at(ledger, was_lost)
        if ledger.must_be_checked:
            threading.Thread(target=ledger.check, name="ledger-check", daemon=True).start()
        pool, aside = ProcessPool(settings.site.workers or os.cpu_count() or 1), ProcessPool(1)
        try:
            about = mapping_of(settings), rules, aside, rebuilt_at, claimant_of(settings)
            yield Site(settings, spool, ledger, pool, *about)
        finally:
            aside.close()
            pool.close()
            ledger.close()
        ledger.end_use()


def _require_known_store(settings: Settings) -> None:
    """Raise Transient if the ledger knows a store and none is here: it may not be mounted yet."""
    spool = settings.spool
    if not spool.has_store or (spool.store / SPOOL).exists():
        return
    ledger = connect(settings)
    try:
        with contextlib.suppress(Configuration):  # The first worker makes the tables.
            ledger.require_tables()
            # Another node that starts just now writes first the file, then the note.
            if (noted := ledger.noted(SPOOL)) and not (spool.store / SPOOL).exists():
                raise Transient(
                    f"[cluster] store {spool.store} is not that of the ledger: is it mounted? If that was "
                    f"lost and this one takes its place, write {noted} into its file {SPOOL}: docs/scale.md"
                )
    finally:
        ledger.close()


def mapping_of(settings: Settings) -> Institutions:
    """Read the site's institution mapping and log it; return an empty one if none is configured."""
    if settings.site.institution_mapping is None:
        return Institutions()
    mapping = institutions.read(settings.beside(settings.site.institution_mapping))
    emit(Event.MAPPING_LOADED, file=mapping.file, count=len(mapping.names))
    return mapping


def _rebuilt_at(ledger: Ledger, was_lost: bool) -> float | None:
    if was_lost:
        alarm(
            Event.LEDGER_REBUILT,
            ledger=ledger.name,
            remedy="what waits for destinations that cannot be asked is held until `storestow retry`",
        )
    noted = ledger.noted(REBUILT)
    return float(noted) if noted else None
