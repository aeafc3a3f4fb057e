"""The state of the site, as `status --json` has it."""

import time
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection

from pipeline.ledger import Ledger, orders, reports, rerouting, samples
from pipeline.ledger.rows import DeliveryRow
from pipeline.receiving.lock import is_up
from pipeline.site import worker_refusal
from pipeline.site.disk_space import DiskLevel, free_bytes, judged
from pipeline.site.node import claimant_of, node_statuses
from pipeline.site.settings import Settings
from pipeline.site.waiting import Wait, waits
from pipeline.site.worker_state import worker_status
from pipeline.spool.store_probe import probe


def status(settings: Settings, ledger: Ledger) -> dict[str, Any]:
    """Return counts by state, and the state of every destination and receiver."""
    with ledger.reading() as connection:
        answer: dict[str, Any] = {**reports.counts(connection), "orders": orders.by_state(connection)}
        answer["not_compared"] = [asdict(row) for row in reports.not_compared(connection)]
    return {**answer, **present_state(settings, ledger)}


def present_state(settings: Settings, ledger: Ledger) -> dict[str, Any]:
    """Return the part of `status` that costs as much as what is open, however much the ledger holds."""
    spool = settings.spool
    answer: dict[str, Any] = {}
    with ledger.reading() as connection:
        configured = [d.name for d in settings.destination]
        answer["destinations"] = [_destination(connection, d.name, d.kind) for d in settings.destination]
        gone = rerouting.stranded(connection, configured)
        answer["destinations"] += [_gone(name, *about) for name, about in gone.items()]
        open_ones = waits(
            reports.open_deliveries(connection), reports.destination_rows(connection), configured, time.time()
        )
        answer["attention"] = [_attention(row, wait) for row, wait in open_ones]
    answer["receivers"] = [
        {
            "name": receiver.name,
            "ae_title": receiver.ae_title,
            "port": receiver.port,
            "mode": receiver.mode,
            "state": "up" if is_up(spool, receiver) else "down",
        }
        for receiver in settings.receiver
    ]
    worker = worker_status(settings, ledger)
    answer["worker"] = {
        "node": claimant_of(settings).node,
        "state": worker.state,
        "seconds": worker.seconds and round(worker.seconds, 1),
        "refuses": worker_refusal.reason(spool),
    }
    answer["nodes"] = [asdict(node) for node in node_statuses(settings, ledger)]
    answer["space"] = _space(settings)
    answer["store"] = _store(settings)
    with ledger.reading() as connection:
        growth = samples.ledger_growth(connection)
    answer["ledger"] = {"bytes": ledger.size(), "bytes_per_day": growth and round(growth)}
    return answer


def _space(settings: Settings) -> dict[str, Any]:
    """Return the free space in the spool, and its level regardless of the level before."""
    free = free_bytes(settings.site.spool)
    marks = {"alarm_below": settings.site.alarm_below, "refuse_below": settings.site.refuse_below}
    return {"free": free, **marks, "state": judged(free, DiskLevel.ENOUGH, **marks).name.lower()}


def _store(settings: Settings) -> dict[str, Any] | None:
    """Return what is known of the store of [cluster], None where there is none."""
    if settings.cluster is None:
        return None
    state, waiting = probe(settings.spool), len(settings.spool.received_names())
    about = {"path": str(settings.cluster.store), "state": "down" if state.problem else "up"}
    return {**about, "reason": state.problem, "free": state.free, "waiting": waiting}


def _destination(connection: Connection, name: str, kind: str) -> dict[str, Any]:
    row = reports.destination_row(connection, name)
    waiting, oldest = reports.waiting_at(connection, name)
    paused, down_since = (row.paused, row.down_since) if row else (False, None)
    return {
        "name": name,
        "kind": kind,
        "state": "paused" if paused else "down" if down_since else "up",
        "waiting": waiting,
        "oldest_seconds": round(time.time() - oldest, 1) if oldest else None,
        "down_since": down_since,
        "reason": row.reason if row else None,
        "paused_by": row.paused_by if row else None,
        "paused_at": row.paused_at if row else None,
    }


def _gone(name: str, deliveries: int, oldest: float) -> dict[str, Any]:
    """Return a destination that deliveries wait for although it is no longer configured."""
    return {
        "name": name,
        "kind": None,
        "state": "gone",
        "waiting": deliveries,
        "oldest_seconds": round(time.time() - oldest, 1),
        "down_since": None,
        "reason": f"is no longer configured: name it again, or `storestow reroute {name} NEW`",
    }


def _attention(row: DeliveryRow, wait: Wait) -> dict[str, Any]:
    """Return one undelivered delivery: why, what it waits for, and until when."""
    return {
        "delivery": row.id,
        "destination": row.destination,
        "study_instance_uid": row.study_instance_uid,
        "state": row.state,
        "reason": wait.reason,
        "held": row.held,
        "attempts": row.attempts,
        "created_at": row.created_at,
        "due_at": row.due_at,
        "waits_for": wait.what,
        "next_attempt_at": wait.until,
    }
