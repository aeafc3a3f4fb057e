"""Measure what one study costs here: processor, transactions, rows and copying, for `forty_sites.py --measure`.

What is measured is the whole of a site, receiver and worker with all their processes, while an Orthanc is its
archive; the processor time of sender and archive is not in it.
"""

import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from unittest import mock

import psutil
from rows_of_delivery import held, wait_for
from studies import slices
from support.machine import postgresql
from support.machine.dicom_programs import dcmsend, orthanc
from support.sites import ledger_place
from support.sites.line_site import all_settled, arrive, rounds, settings_for, working
from support.sites.running_site import running_site

from pipeline.ledger import Ledger, heartbeats

INSTANCES = 200  # CT slices of 526 kB
TRANSACTIONS = 500
PAGE = 4096  # bytes of SQLite's pages, as the ledger has them


def processor_seconds(pid: int) -> float:
    """Return the processor time of a process and of all that it has started, also of those that have ended."""
    top = psutil.Process(pid)
    return sum(sum(process.cpu_times()[:4]) for process in (top, *top.children(recursive=True)))


def line_seconds(encode: str) -> tuple[float, float]:
    """Return the processor seconds of a site for one megabyte received, and what it sends as a share of that.

    The slices of the bench are noisier than a scanner's: the share is larger than a hospital's.
    """
    with tempfile.TemporaryDirectory() as name, orthanc(Path(name, "archive")) as archive:
        table = {"name": "archive", "kind": "stow", "url": archive.studies, "encode": encode}
        with running_site(Path(name, "site"), destinations=[table]) as site:
            for count in (5, INSTANCES):  # the first study pays for starting what the second finds running
                (study,) = slices(Path(name, f"study{count}"), count)
                at_archive, before = held(archive), processor_seconds(site.process.pid)
                assert dcmsend(site.port, study).acknowledged == count
                wait_for(archive, at_archive + count)
                site.wait_settled()
            used = processor_seconds(site.process.pid) - before
        received = sum(file.stat().st_size for file in study.iterdir())
        stored = sum(len(archive.download(identifier)) for identifier in list(archive.instances().values())[-20:])
        return used / received * 1e6, stored / 20 / (received / INSTANCES)


def ledger_of_a_study() -> tuple[int, float]:
    """Return how many flushed transactions a study of `INSTANCES` CT costs, and the bytes of an instance.

    The study goes to one STOW-RS archive, without encoding; the bytes are by how much the ledger grows.
    """
    committed = 0
    original = Ledger.transaction

    @contextmanager
    def counted(ledger: Ledger, *, flushed: bool = True, alone: bool = True) -> Iterator[object]:
        nonlocal committed
        with original(ledger, flushed=flushed, alone=alone) as connection:
            yield connection
        committed += flushed  # an unflushed one (a beat) costs a hundredth, and has nothing to do with the study

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        archive = stack.enter_context(orthanc(folder / "archive"))
        table = {"name": "archive", "kind": "stow", "url": archive.studies}
        site, worker = stack.enter_context(working(settings_for(folder, destinations=[table])))
        stack.enter_context(mock.patch.object(Ledger, "transaction", counted))
        for study in slices(folder / "studies", INSTANCES, 2):  # the first one fills the pages that are empty
            before, committed = _pages(site.ledger), 0
            arrive(site.spool, *study.iterdir())
            rounds(worker, until=all_settled(site), seconds=120)
        return committed, (_pages(site.ledger) - before) * PAGE / INSTANCES


def _pages(ledger: Ledger) -> int:
    with ledger.reading() as look:
        return int(look.exec_driver_sql("PRAGMA page_count").scalar_one())


def transactions_a_second() -> float:
    """Return how many flushed transactions of one row the ledger commits a second, one after the other."""
    with tempfile.TemporaryDirectory() as name, working(settings_for(Path(name))) as (site, _):
        began = time.perf_counter()
        for number in range(TRANSACTIONS):
            with site.ledger.transaction() as change:
                heartbeats.beat(change, "bench", 0.0, float(number))
        return TRANSACTIONS / (time.perf_counter() - began)


def transactions_a_second_on_postgresql() -> float:
    """Return the same of a PostgreSQL server on this machine that flushes what it commits."""
    flushing = tuple(word for word in postgresql.SETTINGS if word not in postgresql.DURABILITY_IS_NOT_TESTED)
    with (
        mock.patch.object(postgresql, "SETTINGS", flushing),
        postgresql.postgresql() as server,
        ledger_place.on(server),
    ):
        return transactions_a_second()


def copied_megabytes_a_second() -> float:
    """Return how fast files of a CT are copied and flushed, one after the other."""
    with tempfile.TemporaryDirectory() as name:
        (study,) = slices(Path(name, "study"), INSTANCES)
        began, copied = time.perf_counter(), 0
        for file in study.iterdir():
            with Path(name, f"copy{copied}").open("wb") as copy:
                copied += copy.write(file.read_bytes())
                copy.flush()
                os.fsync(copy.fileno())
        return copied / 1e6 / (time.perf_counter() - began)


def measured() -> Iterator[tuple[str, str]]:
    """Yield each cost as soon as it is known: what it is, and its value."""
    yield "megabytes copied and flushed a second", f"{copied_megabytes_a_second():.0f}"
    yield "transactions a second, SQLite", f"{transactions_a_second():.0f}"
    yield "transactions a second, PostgreSQL", f"{transactions_a_second_on_postgresql():.0f}"
    transactions, size = ledger_of_a_study()
    yield f"flushed transactions of {INSTANCES} CT", str(transactions)
    yield "ledger bytes of an instance", f"{size:.0f}"
    for encode in ("none", "j2k", "htj2k"):
        seconds, share = line_seconds(encode)
        yield f"processor seconds a megabyte, {encode}", f"{seconds:.4f}"
        yield f"share of the bytes sent, {encode}", f"{share:.2f}"
    yield "load", f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"
