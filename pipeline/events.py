"""The one place for log lines: fixed verbs, `key=value`, identifiers, never a person (docs/log-events.md).

Every value is escaped, because most of them come from a peer: no line break, no control character and no
quote survives, so one event is always one line.
"""

import logging
import sys
import traceback
import warnings
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path

_log = logging.getLogger("storestow")


class Event(StrEnum):
    """The verbs operators and alarms may rely on; docs/log-events.md explains each."""

    ACCEPTED = "accepted"
    ADMITTED = "admitted"
    ANSWERED = "answered"
    ASKED_AGAIN = "asked-again"
    CLOCK_JUMPED = "clock-jumped"
    COERCED = "coerced"
    CONFLICT = "conflict"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    DISCARDED = "discarded"
    DISC_MADE = "disc-made"
    DUPLICATE = "duplicate"
    ENCODED = "encoded"
    FLUSHED = "flushed"
    HELD = "held"
    IDENTITY_DIFFERS = "identity-differs"
    IDENTITY_NOTED = "identity-noted"
    LEFT_OUT = "left-out"
    LEDGER_MIGRATED = "ledger-migrated"
    LEDGER_REBUILT = "ledger-rebuilt"
    MAPPING_LOADED = "mapping-loaded"
    MENDED = "mended"
    NOT_ENCODED = "not-encoded"
    ORDERED = "ordered"
    ORDER_ENDED = "order-ended"
    PAUSED = "paused"
    PATIENTS_SLOW = "patients-slow"
    PEER_DOWN = "peer-down"
    PEER_UP = "peer-up"
    PROGRAM = "program"
    QUARANTINED = "quarantined"
    RELEASED = "released"
    REROUTED = "rerouted"
    RECEIVER_RESTARTED = "receiver-restarted"
    RECEIVER_STARTED = "receiver-started"
    RECEIVER_STOPPED = "receiver-stopped"
    REFUSED = "refused"
    RESUMED = "resumed"
    RETRIED = "retried"
    RETRIEVED = "retrieved"
    RETRIEVING = "retrieving"
    SETTLED = "settled"
    SHIM_STARTED = "shim-started"
    SHIM_STOPPED = "shim-stopped"
    SPACE_BACK = "space-back"
    SPACE_LOW = "space-low"
    STRANDED = "stranded"
    SWEPT = "swept"
    UNCLAIMED = "unclaimed"
    UNKNOWN_INSTITUTION = "unknown-institution"
    VERIFIED = "verified"
    WORKER_STARTED = "worker-started"
    WORKER_STOPPED = "worker-stopped"


def emit(event: Event, level: int = logging.INFO, /, **fields: object) -> None:
    """Write one event as one line: the verb, then `key=value` in the order given; None is left out."""
    words = [str(event)]
    words += [f"{key}={escaped(value)}" for key, value in fields.items() if value is not None]
    _log.log(level, " ".join(words))


def alarm(event: Event, /, **fields: object) -> None:
    """Write an event somebody must look at."""
    emit(event, logging.ERROR, **fields)


def bug(what: str, error: BaseException) -> None:
    """Write a bug as an event: its kind and where it arose, without its text, which may quote a patient's name."""
    fault(what, traced(error))


def fault(what: str, where: str) -> None:
    """Write a bug as an event, where another process has caught it: `where` is what `traced` returned there."""
    _log.error("bug what=%s error=%s", escaped(what), escaped(where, limit=2000))


def traced(error: BaseException) -> str:
    """Return an exception's kind and the lines it came through, innermost first."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join([type(error).__name__, *(f"{Path(f.filename).name}:{f.lineno}" for f in frames)])


def escaped(value: object, limit: int = 500) -> str:
    """Return `value` as one printable ASCII word, quoted where it holds blanks, cut at `limit` characters."""
    text = str(value)
    if len(text) > limit:
        text = text[:limit] + "..."
    plain = text.encode("unicode_escape").decode("ascii").replace('"', "'")
    return f'"{plain}"' if not plain or any(c in plain for c in " =") else plain


def moment(seconds: float | None) -> str | None:
    """Return a moment as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def silence_libraries() -> None:
    """Keep libraries from writing lines of their own: pydicom's warnings quote values, and values name people.

    watchdog complains of its own end.
    """
    warnings.simplefilter("ignore")
    for library in ("pydicom", "watchdog"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)


def log_to_stderr(level: int = logging.INFO) -> None:
    """Send events to standard error, where systemd's journal and launchd's StandardErrorPath pick them up."""
    silence_libraries()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.handlers[:] = [handler]
    _log.setLevel(level)
    _log.propagate = False
