"""The state of the site in numbers: read once, for metrics, alarms and the operator's page."""

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import psutil

from pipeline.ledger import Ledger, heartbeat_studies, heartbeats, queue_lengths, reports, tallies
from pipeline.ledger.heartbeat_studies import SentStudy
from pipeline.ledger.queue_lengths import Queue
from pipeline.ledger.tallies import Tally
from pipeline.receiving.lock import is_up
from pipeline.site.node import claimant_of, name_in_cluster
from pipeline.site.settings import Settings


@dataclass(frozen=True, slots=True)
class Measurements:
    """Numbers of one moment; times are seconds since the epoch, sizes bytes."""

    at: float
    totals: Sequence[Tally]
    queues: Mapping[str, Queue]  # By destination, configured or not.
    destinations: Mapping[str, Any]  # The ledger's notes about each.
    set_aside: Mapping[str, int]  # Instances by code.
    arrivals_set_aside: int
    open_orders: int
    beat_at: float | None  # The worker's last report.
    started_at: float | None
    heartbeat_study: SentStudy | None
    receivers_up: Mapping[str, bool]
    destination_names: Sequence[str]  # The configured destinations.
    alarm_below: int
    refuse_below: int
    free: int
    size: int  # Size of the spool's file system.
    ledger_size: int


def measured(settings: Settings, ledger: Ledger, now: float) -> Measurements:
    """Return the numbers at `now`; raises Transient if the ledger cannot be read."""
    spool = settings.spool
    with ledger.reading() as connection:
        worker = heartbeats.row(connection, claimant_of(settings).worker)
        queues = queue_lengths.queues(connection)
        totals = tallies.totals(connection)
        noted = reports.destination_rows(connection)
        aside, whole = queue_lengths.set_aside(connection), queue_lengths.arrivals_set_aside(connection)
        study = heartbeat_studies.read(connection, name_in_cluster(settings))
        orders = queue_lengths.open_orders(connection)
    disk = shutil.disk_usage(settings.site.spool)
    return Measurements(
        at=now,
        totals=totals,
        queues=queues,
        destinations=noted,
        set_aside=aside,
        arrivals_set_aside=whole,
        open_orders=orders,
        beat_at=worker.beat_at if worker else None,
        started_at=worker.started_at if worker else None,
        heartbeat_study=study,
        receivers_up={receiver.name: is_up(spool, receiver) for receiver in settings.receiver},
        destination_names=[destination.name for destination in settings.destination],
        alarm_below=settings.site.alarm_below,
        refuse_below=settings.site.refuse_below,
        free=disk.free,
        size=disk.total,
        ledger_size=ledger.size(),
    )


def open_associations(settings: Settings) -> dict[str, int]:
    """Return how many connections are established at the port of each receiver, by its name."""
    connections = psutil.net_connections("tcp")
    ports = Counter(c.laddr.port for c in connections if c.laddr and c.status == psutil.CONN_ESTABLISHED)
    return {receiver.name: ports[receiver.port] for receiver in settings.receiver}
