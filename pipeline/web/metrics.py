"""GET /metrics: the site in numbers for Prometheus, read from the ledger at each scrape (docs/monitoring.md)."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.requests import Request
from starlette.responses import Response

from pipeline import __version__
from pipeline.errors import StorestowError
from pipeline.ledger.tallies import BEYOND, BUCKETS, Tally, TallyKind
from pipeline.model import SET_ASIDE_CODES
from pipeline.operate.measurements import Measurements, measured
from pipeline.web.order_service import OrderService, ask
from pipeline.web.shim_site import site_of

PATH = "/metrics"
_CODES_SET_ASIDE = ("conflict", "unusable", *SET_ASIDE_CODES)
MOST_TITLES = 200  # Peers choose AE titles; a thousand of them would make a thousand time series.


async def metrics(request: Request) -> Response:
    """Answer a scrape in the text format its Accept asks for."""
    request.state.is_quiet = True
    families = await ask(_families, site_of(request).order_service)
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collected(families))
    encode, media_type = choose_encoder(request.headers.get("accept", ""))
    body = await ask(encode, registry)
    return Response(body, headers={"Content-Type": media_type, "Cache-Control": "no-store"})


class _Collected(Collector):
    """Hand over families that are there already."""

    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Return the families of metrics of this scrape."""
        return self._families


def _families(order_service: OrderService) -> list[Metric]:
    """Return every family; a ledger that cannot be read is a metric too, so that the scrape tells it."""
    began = time.monotonic()
    try:
        numbers = measured(order_service.settings, order_service.ledger(), time.time())
    except StorestowError:
        return [_gauge("storestow_ledger_readable", "Whether the ledger can be read.", 0)]
    found = list(families_of(numbers))
    found.append(_gauge("storestow_ledger_readable", "Whether the ledger can be read.", 1))
    seconds = time.monotonic() - began
    found.append(_gauge("storestow_scrape_seconds", "How long reading these numbers took.", seconds))
    return found


def families_of(numbers: Measurements) -> Iterator[Metric]:
    """Yield the numbers as families of metrics."""
    build = GaugeMetricFamily("storestow_build_info", "The release that runs.", labels=["version"])
    build.add_metric([__version__], 1)
    yield build
    yield from _of_what_came(numbers)
    yield from _of_deliveries(numbers)
    yield _histogram(numbers.totals)
    yield from _of_destinations(numbers)
    yield from _of_the_site(numbers)


def _of_what_came(numbers: Measurements) -> Iterator[Metric]:
    receivers = ("receiver", numbers.receivers_up)
    came = [tally for tally in numbers.totals if tally.kind == TallyKind.RECEIVED]
    yield _counter("storestow_received_arrivals", "Arrivals taken in.", receivers, came, "times")
    yield _counter("storestow_received_instances", "Instances taken in.", receivers, came, "instances")
    yield _counter("storestow_received_bytes", "Bytes taken in.", receivers, came, "bytes")
    last = GaugeMetricFamily(
        "storestow_last_arrival_timestamp_seconds",
        "When something was last admitted that this AE title had sent.",
        labels=["receiver", "calling_ae_title"],
    )
    for tally in sorted(came, key=lambda tally: tally.last_at, reverse=True)[:MOST_TITLES]:
        last.add_metric([tally.name, tally.detail], tally.last_at)
    yield last
    yield _failures(numbers)
    ended = [tally for tally in numbers.totals if tally.kind == TallyKind.ORDER]
    yield _counter("storestow_orders_ended", "Orders that have ended.", ("destination", ()), ended, "times")


def _failures(numbers: Measurements) -> Metric:
    """Return what failed by kind and place; what never failed at a destination is 0 there.

    increase() of Prometheus compares samples of one series: without the 0 a first failure would be no increase.
    """
    family = CounterMetricFamily(
        "storestow_failures", "What failed: instances set aside, orders that failed.", labels=["kind", "where"]
    )
    kinds = (f"delivery-{TallyKind.REFUSED}", f"delivery-{TallyKind.DEFERRED}")
    counted = Counter({(kind, name): 0 for name in numbers.destination_names for kind in kinds})
    for tally in numbers.totals:
        if tally.kind == TallyKind.SET_ASIDE or (tally.kind == TallyKind.ORDER and tally.detail != "done"):
            counted[tally.detail, tally.name] += tally.times
        elif tally.kind in {TallyKind.REFUSED, TallyKind.DEFERRED}:
            counted[f"delivery-{tally.kind}", tally.name] += tally.times
    for labels, count in sorted(counted.items()):
        family.add_metric(labels, count)
    return family


def _of_deliveries(numbers: Measurements) -> Iterator[Metric]:
    totals, destinations = numbers.totals, ("destination", numbers.destination_names)
    went = [tally for tally in totals if tally.kind == TallyKind.DELIVERED]
    yield _counter("storestow_delivered_deliveries", "Deliveries that arrived.", destinations, went, "times")
    yield _counter("storestow_delivered_instances", "Instances that arrived.", destinations, went, "instances")
    yield _counter("storestow_delivered_bytes", "Bytes that arrived.", destinations, went, "bytes")
    before = {tally.name: tally.bytes for tally in totals if tally.kind == TallyKind.PIXELS_BEFORE}
    after = {tally.name: tally.bytes for tally in totals if tally.kind == TallyKind.PIXELS_AFTER}
    pixels = CounterMetricFamily(
        "storestow_encoded_pixel_bytes", "Pixel bytes of what was encoded.", labels=["destination", "stage"]
    )
    ratio = GaugeMetricFamily(
        "storestow_encode_ratio", "Pixel bytes before encoding to those after it.", labels=["destination"]
    )
    for name in sorted(before.keys() & after.keys()):
        pixels.add_metric([name, "before"], before[name])
        pixels.add_metric([name, "after"], after[name])
        ratio.add_metric([name], before[name] / after[name])
    yield pixels
    yield ratio


def _histogram(totals: Iterable[Tally]) -> Metric:
    family = HistogramMetricFamily(
        "storestow_study_verified_seconds",
        "Seconds from the last file of a study to its verification at the destination.",
        labels=["destination"],
    )
    verified = [tally for tally in totals if tally.kind == TallyKind.VERIFIED]
    for name in sorted({tally.name for tally in verified}):
        counts = {tally.detail: tally.times for tally in verified if tally.name == name}
        buckets: list[tuple[str, float]] = []
        running = 0
        for bound in (*map(str, BUCKETS), BEYOND):
            running += counts.get(bound, 0)
            buckets.append((bound if bound == BEYOND else f"{bound}.0", running))
        seconds = sum(tally.seconds for tally in verified if tally.name == name)
        family.add_metric([name], buckets, seconds)
    return family


def _of_destinations(numbers: Measurements) -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "storestow_waiting_deliveries", "Deliveries that have not ended.", labels=["destination"]
    )
    oldest = GaugeMetricFamily(
        "storestow_oldest_waiting_seconds",
        "Age of the oldest of them; 0 where none waits.",
        labels=["destination"],
    )
    is_up = GaugeMetricFamily(
        "storestow_destination_up",
        "Whether the destination answers, as of the last attempt.",
        labels=["destination"],
    )
    paused = GaugeMetricFamily(
        "storestow_destination_paused", "Whether a person has paused it.", labels=["destination"]
    )
    for name in sorted({*numbers.queues, *numbers.destination_names}):
        queue, noted = numbers.queues.get(name), numbers.destinations.get(name)
        waiting.add_metric([name], queue.deliveries if queue else 0)
        oldest.add_metric([name], max(0.0, numbers.at - queue.oldest_at) if queue else 0)
        is_up.add_metric([name], 0 if noted is not None and noted.down_since is not None else 1)
        paused.add_metric([name], 1 if noted is not None and noted.paused else 0)
    yield from (waiting, oldest, is_up, paused)


def _of_the_site(numbers: Measurements) -> Iterator[Metric]:
    aside = GaugeMetricFamily(
        "storestow_quarantined_instances", "Instances that wait for a person, by code.", labels=["code"]
    )
    # With 0 for those of which there are none: a sum of metrics of which one is absent is no number in Prometheus.
    for code, count in sorted({**dict.fromkeys(_CODES_SET_ASIDE, 0), **numbers.set_aside}.items()):
        aside.add_metric([code], count)
    yield aside
    whole = numbers.arrivals_set_aside
    yield _gauge("storestow_quarantined_arrivals", "Whole arrivals that wait for a person.", whole)
    yield _gauge("storestow_open_orders", "Orders that have not ended.", numbers.open_orders)
    yield _gauge("storestow_spool_free_bytes", "Bytes free in the spool's file system.", numbers.free)
    yield _gauge("storestow_spool_size_bytes", "Bytes of the spool's file system.", numbers.size)
    yield _gauge("storestow_spool_alarm_bytes", "[site] alarm_below: fewer free bytes alarm.", numbers.alarm_below)
    yield _gauge(
        "storestow_spool_refuse_bytes", "[site] refuse_below: fewer close the door.", numbers.refuse_below
    )
    yield _gauge("storestow_ledger_size_bytes", "Bytes of the ledger.", numbers.ledger_size)
    beat = numbers.beat_at or 0
    words = "When the worker's loop was last heard of; 0: never."
    yield _gauge("storestow_worker_heartbeat_timestamp_seconds", words, beat)
    started = numbers.started_at or 0
    yield _gauge("storestow_worker_start_timestamp_seconds", "When the worker began.", started)
    receivers = GaugeMetricFamily("storestow_receiver_up", "Whether its port is open.", labels=["receiver"])
    for name, is_open in sorted(numbers.receivers_up.items()):
        receivers.add_metric([name], int(is_open))
    yield receivers
    study = numbers.heartbeat_study
    words = "1 from when a heartbeat study was not verified in time until one is again, else 0."
    yield _gauge("storestow_heartbeat_study_missed", words, int(study is not None and study.is_missed))
    if study is not None:
        words = "When the last heartbeat study was sent."
        yield _gauge("storestow_heartbeat_study_timestamp_seconds", words, study.sent_at)
    if study is not None and study.seconds is not None:
        words = "How long the last heartbeat study took that was verified."
        yield _gauge("storestow_heartbeat_study_seconds", words, study.seconds)


def _gauge(name: str, words: str, value: float) -> Metric:
    return GaugeMetricFamily(name, words, value=value)


def _counter(
    name: str, words: str, of: tuple[str, Iterable[str]], tallies: Iterable[Tally], column: str
) -> Metric:
    """Return a counter with the sums of a column by name; `of` is the label, and names that are at least 0."""
    label, names = of
    family = CounterMetricFamily(name, words, labels=[label])
    sums: dict[str, float] = dict.fromkeys(names, 0.0)
    for tally in tallies:
        sums[tally.name] = sums.get(tally.name, 0) + getattr(tally, column)
    for value, total in sorted(sums.items()):
        family.add_metric([value], total)
    return family
