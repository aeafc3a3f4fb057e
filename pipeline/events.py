"""The one place for log lines: fixed verbs, `key=value`, identifiers, never a person (docs/log-events.md).

Every value is escaped, because most come from a peer: without line breaks, control characters and quotes one event
is always one line.
"""

import json
import logging
import os
import sys
import traceback
import warnings
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TextIO

_log = logging.getLogger("storestow")


class Event(StrEnum):
    """The verbs operators and alarms may rely on; docs/log-events.md explains each."""

    ACCEPTED = "accepted"
    ADMITTED = "admitted"
    ALARM = "alarm"
    ALARM_NOT_SENT = "alarm-not-sent"
    ALARM_OVER = "alarm-over"
    ALARM_SENT = "alarm-sent"
    ANSWERED = "answered"
    ASKED_AGAIN = "asked-again"
    CLOCK_JUMPED = "clock-jumped"
    COERCED = "coerced"
    CONFLICT = "conflict"
    DEFERRED = "deferred"
    DELIVERED = "delivered"
    DISCARDED = "discarded"
    DISC_MADE = "disc-made"
    DRAINING = "draining"
    DUPLICATE = "duplicate"
    ENCODED = "encoded"
    FENCED = "fenced"
    FLUSHED = "flushed"
    HANDED_OVER = "handed-over"
    HEARTBEAT_STUDY = "heartbeat-study"
    HELD = "held"
    IDENTITY_DIFFERS = "identity-differs"
    IDENTITY_NOTED = "identity-noted"
    LEFT_OUT = "left-out"
    LEDGER_MIGRATED = "ledger-migrated"
    LEDGER_REBUILT = "ledger-rebuilt"
    LEDGER_REPLACED = "ledger-replaced"
    MAPPING_LOADED = "mapping-loaded"
    MENDED = "mended"
    NODE_FORGOTTEN = "node-forgotten"
    NODE_LEFT = "node-left"
    NODE_LOST = "node-lost"
    NOTICES_BACK = "notices-back"
    NOTICES_LOST = "notices-lost"
    NOT_ENCODED = "not-encoded"
    OPERATOR = "operator"
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
    FORGOTTEN = "forgotten"
    SHIM_STARTED = "shim-started"
    SHIM_STOPPED = "shim-stopped"
    SPACE_BACK = "space-back"
    SPACE_LOW = "space-low"
    STRANDED = "stranded"
    SWEPT = "swept"
    TAKEN_OVER = "taken-over"
    UNCLAIMED = "unclaimed"
    UNKNOWN_INSTITUTION = "unknown-institution"
    VERIFIED = "verified"
    WORKER_REFUSES = "worker-refuses"
    WORKER_STARTED = "worker-started"
    WORKER_STOPPED = "worker-stopped"


def emit(event: Event, level: int = logging.INFO, /, **fields: object) -> None:
    """Write one event as one line: the verb, then `key=value` in the given order; a value of None is left out."""
    given = {key: value for key, value in fields.items() if value is not None}
    words = [str(event), *(f"{key}={escaped(value)}" for key, value in given.items())]
    _log.log(level, " ".join(words), extra={"event": str(event), "fields": given})


def alarm(event: Event, /, **fields: object) -> None:
    """Write an event that somebody must look at."""
    emit(event, logging.ERROR, **fields)


def bug(what: str, error: BaseException) -> None:
    """Write a bug as an event: its kind and its place, without its text, which may quote a patient's name."""
    fault(what, traced(error))


def fault(what: str, where: str) -> None:
    """Write a bug that another process has caught as an event; `where` is what `traced` returned there."""
    given = {"what": what, "error": where}
    _log.error(
        "bug what=%s error=%s", escaped(what), escaped(where, limit=2000), extra={"event": "bug", "fields": given}
    )


def traced(error: BaseException) -> str:
    """Return an exception's kind and the lines it came through, innermost first."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    return " < ".join([type(error).__name__, *(f"{Path(f.filename).name}:{f.lineno}" for f in frames)])


def escaped(value: object, limit: int = 500) -> str:
    """Return `value` as one printable ASCII word, quoted if it holds blanks, cut at `limit` characters."""
    text = str(value)
    if len(text) > limit:
        text = text[:limit] + "..."
    plain = text.encode("unicode_escape").decode("ascii").replace('"', "'")
    return f'"{plain}"' if not plain or any(c in plain for c in " =") else plain


def moment(seconds: float | None) -> str | None:
    """Return a moment as ISO 8601 in UTC."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def silence_libraries() -> None:
    """Keep libraries from writing lines of their own: pydicom's warnings quote values, which may name people.

    watchdog logs its own end. SQLAlchemy logs what goes wrong when it gives back a connection that the server has
    ended, with a traceback: the caller has the error already.
    """
    warnings.simplefilter("ignore")
    for library in ("pydicom", "watchdog", "sqlalchemy"):
        logging.getLogger(library).setLevel(logging.CRITICAL + 1)


class LogFormat(StrEnum):
    """The format of a log line: for people and files, for systemd's journal, for programs that read JSON."""

    TEXT = "text"
    JOURNAL = "journal"
    JSON = "json"


class _Json(logging.Formatter):
    """One JSON object a line, in ASCII: time, level, event, and the event's own keys below `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        fields = {key: _plain(value) for key, value in getattr(record, "fields", {}).items()}
        about = {"time": moment(record.created), "level": record.levelname.lower()}
        event = getattr(record, "event", None)
        words = {"event": event, "fields": fields} if event else {"message": record.getMessage()}
        return json.dumps({**about, **words}, ensure_ascii=True)


def _plain(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = str(value)
    return text if len(text) <= 2000 else text[:2000] + "..."


class _Journal(logging.Formatter):
    """The priority of sd-daemon(3) and the words; the journal adds time and program itself."""

    _PRIORITIES = ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        priority = next((number for level, number in self._PRIORITIES if record.levelno >= level), 7)
        return f"<{priority}>{record.getMessage()}"


def is_journal(stream: TextIO) -> bool:
    """Say whether `stream` is systemd's journal: JOURNAL_STREAM has its device and inode."""
    named = os.environ.get("JOURNAL_STREAM", "")
    try:
        about = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return named == f"{about.st_dev}:{about.st_ino}"


def log_to_stderr(level: int = logging.INFO, kind: LogFormat | None = None) -> None:
    """Send events to standard error, which systemd's journal and launchd's StandardErrorPath record.

    Without `kind`, lines have priorities if standard error is the journal, otherwise times.
    """
    silence_libraries()
    kind = kind or (LogFormat.JOURNAL if is_journal(sys.stderr) else LogFormat.TEXT)
    handler = logging.StreamHandler(sys.stderr)
    formats = {LogFormat.JOURNAL: _Journal(), LogFormat.JSON: _Json()}
    handler.setFormatter(formats.get(kind) or logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    _log.handlers[:] = [handler]
    _log.setLevel(level)
    _log.propagate = False
