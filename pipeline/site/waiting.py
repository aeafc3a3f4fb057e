"""What a delivery waits for, and until when: a code, a time and a sentence, for status and trace."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from pipeline.ledger.rows import DeliveryRow, DestinationRow
from pipeline.model import DeliveryState


class WaitsFor(StrEnum):
    """The person, peer or event a delivery waits for."""

    CONFIGURATION = "configuration"  # No destination of its name is configured.
    RETRY = "retry"  # It was held or refused; a person must say `retry`.
    RESUME = "resume"  # Its destination is paused; a person must say `resume`.
    PEER = "peer"  # Its destination does not answer; one trial decides at the given time.
    TIME = "time"  # Its own next attempt.
    TURN = "turn"  # Deliveries before it in the same queue.
    ANSWER = "answer"  # It is being sent.


@dataclass(frozen=True, slots=True)
class Wait:
    """What a delivery waits for; `until` (seconds since the epoch) is None if unknown."""

    what: WaitsFor
    until: float | None
    reason: str


def waits(
    rows: Iterable[DeliveryRow],
    destinations: Mapping[str, DestinationRow],
    configured: Collection[str] | None,
    now: float,
) -> Iterator[tuple[DeliveryRow, Wait]]:
    """Yield each delivery with what it waits for.

    `rows` are all open and refused deliveries; `destinations` maps a name to the ledger's notes about it. If
    `configured` is None, every destination counts as configured.
    """
    before: Counter[str] = Counter()
    for row in sorted(rows, key=lambda row: (row.order_id is None, row.created_at, row.id)):
        is_configured = configured is None or row.destination in configured
        wait = _wait(row, destinations.get(row.destination), is_configured, before, now)
        yield row, wait
        if wait.what in {WaitsFor.TURN, WaitsFor.ANSWER}:
            before[row.destination] += 1


def _wait(
    row: DeliveryRow, noted: DestinationRow | None, is_configured: bool, before: Counter[str], now: float
) -> Wait:
    return (
        _for_a_person(row, noted, is_configured)
        or _for_a_time(row, noted, now)
        or _for_others(before[row.destination], now)
    )


def _for_a_person(row: DeliveryRow, noted: DestinationRow | None, is_configured: bool) -> Wait | None:
    if row.state == DeliveryState.REFUSED or row.held:
        return Wait(WaitsFor.RETRY, None, row.reason or "`storestow retry` sends it")
    if not is_configured:
        name = row.destination
        reason = f"{name} is no longer configured: name it again, or say `storestow reroute {name} NEW`"
        return Wait(WaitsFor.CONFIGURATION, None, reason)
    if noted is not None and noted.paused and row.state != DeliveryState.SENDING:
        return Wait(WaitsFor.RESUME, None, f"the destination is paused: {noted.reason or 'no reason was given'}")
    return None


def _for_a_time(row: DeliveryRow, noted: DestinationRow | None, now: float) -> Wait | None:
    if row.state == DeliveryState.SENDING:
        return Wait(WaitsFor.ANSWER, None, "is being sent")
    if noted is not None and noted.down_since is not None and row.order_id is None:
        until = max(noted.try_at or now, row.due_at, now)
        return Wait(WaitsFor.PEER, until, f"the destination does not answer: {noted.reason or row.reason}")
    if row.due_at > now:
        return Wait(WaitsFor.TIME, row.due_at, row.reason or "was put off")
    return None


def _for_others(ahead: int, now: float) -> Wait:
    return Wait(WaitsFor.TURN, None if ahead else now, f"{ahead} before it" if ahead else "is next")
