"""The checks of `check` on [cluster]: whether store, clock and configuration are those of the other nodes."""

import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.alarms.conditions import lost_nodes
from pipeline.errors import StorestowError
from pipeline.ledger import SPOOL, Ledger, nodes, notes
from pipeline.site.node import lost_after, site_hash
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import connect
from pipeline.spool.identity_file import identity_of
from pipeline.spool.store_probe import PROBE_SECONDS, probe, within

FOLDER_MARK = ".storestow"  # File with the identity of a folder of a destination.
CLOCK_SECONDS = 2.0
Said = tuple[Literal["ok", "note", "error", "unreachable"], str]


def looked_at(settings: Settings) -> Iterator[Said]:
    """Yield a level and a sentence for each thing that all nodes must have in common."""
    if settings.cluster is None:
        return
    state = probe(settings.spool)
    if state.problem:
        yield "unreachable", f"store {state.problem}; receivers go on, and what they receive waits in the spool"
    ledger = connect(settings)
    try:
        yield from _compared(settings, ledger, None if state.problem else state.mark)
        if not state.problem:
            yield from _folders(settings, ledger)
    except StorestowError as error:
        yield "unreachable", f"ledger: {error}"
    finally:
        ledger.close()
    if not state.problem:
        yield "ok", f"store {settings.cluster.store}: writable, {(state.free or 0) / (1 << 30):.1f} GiB free"


def _compared(settings: Settings, ledger: Ledger, mark: str | None) -> Iterator[Said]:
    assert settings.cluster is not None
    with ledger.reading() as connection:
        before = time.time()
        apart = nodes.clock(connection) - (before + time.time()) / 2
    if abs(apart) > CLOCK_SECONDS:
        yield "error", f"the clock is {abs(apart):.1f} s from that of the ledger's server: let NTP set both"
    try:
        ledger.require_tables()
    except StorestowError:  # The first worker makes them.
        return
    noted = ledger.noted(SPOOL)
    if mark is not None and noted is not None and mark != noted:
        differs = f"its file {SPOOL} differs from the note in the ledger; mount the same one"
        yield "error", f"store {settings.cluster.store} is not that of the other nodes: {differs}"
    with ledger.reading() as connection:
        found = nodes.known(connection)
    mine = site_hash(settings)
    others = [node.report.name for node in found if node.report.name != settings.cluster.name]
    differing = [
        node.report.name
        for node in found
        if node.report.name in others
        and node.seen_seconds < lost_after(settings)
        and node.report.site_hash != mine
    ]
    if differing:
        yield (
            "error",
            f"site.toml differs from that of {', '.join(differing)}: only [site] spool and [cluster] node may",
        )
    for lost in lost_nodes(found, settings.cluster.name, lost_after(settings)):
        yield "note", lost.text
    yield "ok", f"node {settings.cluster.name}, beside {', '.join(others) or 'no other yet'}"


def _folders(settings: Settings, ledger: Ledger) -> Iterator[Said]:
    """Yield an error for each folder of a destination that is another one here than on the other nodes.

    The node that is checked first marks the folder, and notes the mark in the ledger. On the file system of the
    store there is nothing to compare: the store has been.
    """
    try:
        ledger.require_tables()
    except StorestowError:  # The first worker makes them.
        return
    for destination in settings.destination:
        folder = destination.writes_to
        if folder is None:
            continue
        about = f"destination {destination.name}: folder {folder}"
        try:
            mark = within(PROBE_SECONDS, partial(_mark_of, folder, settings.spool.store))
        except (TimeoutError, FileNotFoundError):  # The checks of the destinations report it.
            continue
        except OSError as error:
            yield "error", f"{about} cannot be compared with that of other nodes: {error.strerror}"
            continue
        if mark and mark != (noted := _noted(f"folder.{destination.name}", mark, ledger)):
            remedy = "mount one folder on every node at this path, or name one in the store"
            new = f"if it is the new one of all nodes, write {noted} into its file {FOLDER_MARK}"
            yield "error", f"{about} is not that of the other nodes: {remedy}; {new}"


def _mark_of(folder: Path, store: Path) -> str:
    """Return the identity of a folder, made at the first call; "" if it is on the file system of the store."""
    if folder.stat().st_dev == store.stat().st_dev:
        return ""
    return identity_of(folder / FOLDER_MARK)


def _noted(key: str, mark: str, ledger: Ledger) -> str:
    """Return the note `key`; if there is none, it becomes `mark`."""
    with ledger.transaction() as change:
        noted = notes.read(change, key)
        if noted is None:
            notes.write(change, key, mark)
    return noted or mark
