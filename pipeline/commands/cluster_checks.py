"""The checks of `check` on [cluster]: whether store, clock and configuration are those of the other nodes."""

import time
from collections.abc import Iterator
from typing import Literal

from pipeline.errors import StorestowError
from pipeline.ledger import SPOOL, Ledger, nodes
from pipeline.site.node import lost_after, site_hash
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import connect
from pipeline.spool.store_probe import probe

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
    yield "ok", f"node {settings.cluster.name}, beside {', '.join(others) or 'no other yet'}"
