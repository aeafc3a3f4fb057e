"""GET /api/status: what this site says of itself to the site that shows a fleet (docs/fleet.md)."""

import threading
import time

from starlette.requests import Request
from starlette.responses import Response

from pipeline import __version__
from pipeline.events import escaped
from pipeline.fleet.ask_site import STATUS_PATH
from pipeline.fleet.site_report import (
    MOST,
    ReportedAlarm,
    ReportedDestination,
    ReportedReceiver,
    ReportedSilence,
    ReportedSpace,
    SiteReport,
)
from pipeline.ledger import Ledger, reports, tallies, told_alarms
from pipeline.ledger.tallies import TallyKind
from pipeline.operate.measurements import measured
from pipeline.operate.silence import HISTORY_SECONDS, missed_senders
from pipeline.operate.status import present_state
from pipeline.site.settings import Settings
from pipeline.web.http_errors import NOT_FOUND, HttpError
from pipeline.web.http_responses import json
from pipeline.web.order_service import OrderService, ask
from pipeline.web.shim_site import site_of

__all__ = ["STATUS_PATH", "own_status", "report_of"]
_KEPT_SECONDS = 5.0  # Every site that shows a fleet asks by its worker and by its shim, often at the same time.
_LONGEST_TITLE = 64  # Characters of an AE title as a peer wrote it, escaped.


async def own_status(request: Request) -> Response:
    """Answer another site that asks for our state; the middleware has checked the key."""
    site = site_of(request)
    if not site.keyring.status_key:
        raise HttpError(NOT_FOUND)
    request.state.is_quiet = True
    if not hasattr(request.app.state, "kept_report"):
        request.app.state.kept_report = _KeptReport()
    report: SiteReport = await ask(request.app.state.kept_report.take, site.order_service)
    answer = json(report.model_dump())
    answer.headers["Cache-Control"] = "no-store"
    return answer


class _KeptReport:
    """The last report, for the questions of the next seconds; of questions at once one makes it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._report: SiteReport | None = None
        self._made = 0.0  # by the monotonic clock

    def take(self, order_service: OrderService) -> SiteReport:
        """Return a report that is a few seconds old at most; raises Transient if the ledger cannot be read."""
        with self._lock:
            if self._report is None or time.monotonic() - self._made >= _KEPT_SECONDS:
                self._report = report_of(order_service.settings, order_service.ledger(), time.time())
                self._made = time.monotonic()
            return self._report


def report_of(settings: Settings, ledger: Ledger, now: float) -> SiteReport:
    """Return the state of this site at `now`; raises Transient if the ledger cannot be read."""
    numbers, stands = measured(settings, ledger, now), present_state(settings, ledger)
    with ledger.reading() as connection:
        history = tallies.since(connection, now - HISTORY_SECONDS, TallyKind.RECEIVED)
        told = told_alarms.read(connection)
        refused = reports.refused_deliveries(connection)
    missed = missed_senders(settings, history, now)
    return SiteReport(
        version=__version__,
        name=settings.site.name,
        at=now,
        worker=stands["worker"]["state"],
        destinations=[
            ReportedDestination(
                name=it["name"],
                kind=it["kind"],
                state=it["state"],
                waiting=it["waiting"],
                oldest_seconds=None if it["oldest_seconds"] is None else max(0.0, it["oldest_seconds"]),
            )
            for it in stands["destinations"][:MOST]
        ],
        receivers=[
            ReportedReceiver(name=it["name"], ae_title=it["ae_title"], state=it["state"])
            for it in stands["receivers"][:MOST]
        ],
        silent=[
            ReportedSilence(
                receiver=silence.receiver,
                calling_ae_title=escaped(silence.calling_ae_title, _LONGEST_TITLE).strip('"'),
                since=silence.since,
            )
            for silence in missed[:MOST]
        ],
        quarantine=sum(numbers.set_aside.values()) + numbers.arrivals_set_aside,
        refused=refused,
        open_orders=numbers.open_orders,
        space=ReportedSpace(free=numbers.free, size=numbers.size, state=stands["space"]["state"]),
        alarms=[
            ReportedAlarm(key=alarm.key, since=alarm.since)
            for alarm in told
            if alarm.told_at and alarm.ended_at is None
        ][:MOST],
    )
