"""`storestow up`: the whole site in the foreground, each part in its own process, restarted when it dies.

The worker reports what is wrong, but cannot report its own silence: `up` does, without reading the ledger, which
may be the fault.
"""

import os
import signal
import socket
import subprocess  # It starts our own command, with our own arguments.
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from pipeline.config.alarm_tables import AlarmTable
from pipeline.events import Event, alarm
from pipeline.processes.service_manager import ALIVE, Listener
from pipeline.processes.signal_handling import end_by
from pipeline.site.settings import Settings

GRACE_SECONDS = 30.0
FAILURES_TO_TELL = 3  # Failures in a row.
STEADY_SECONDS = 60.0  # After running this long, the next failure of a part counts as its first.
LONGEST_WAIT = 60.0
CONFIGURATION = 78
SILENT_SECONDS = 60.0  # Equal to WatchdogSec in the worker's systemd unit.


class PartAlarms:
    """Report each key once within `again_after`, in a thread, because `up` must watch its parts."""

    def __init__(self, table: AlarmTable) -> None:
        self._table = table
        self._told: dict[str, float] = {}  # by the monotonic clock

    def tell(self, key: str, text: str) -> None:
        """Report `key`, unless it was reported within `again_after`, or this hour's messages are used up."""
        now = time.monotonic()
        if now - self._told.get(key, -1e12) < self._table.again_after.total_seconds():
            return
        if sum(now - at < 3600 for at in self._told.values()) >= self._table.messages_an_hour:
            return
        self._told[key] = now
        threading.Thread(target=self._send, args=(key, text), name="alarm", daemon=True).start()

    def _send(self, key: str, text: str) -> None:
        from pipeline.alarms.channels import Channels, Notification  # noqa: PLC0415  # `up` must stay small while it waits

        if not Channels(self._table).send(
            Notification(f"storestow {socket.gethostname()}: {text}", text, "alarm", (key,))
        ):
            self._told.pop(key, None)


def _nobody(_key: str, _text: str) -> None:
    pass


@dataclass
class SiteProcess:
    """One process of the site, and how often it has died lately."""

    name: str
    argv: Sequence[str]
    process: "subprocess.Popen[bytes] | None" = None
    started: float = 0.0
    failures: int = 0
    start_at: float = 0.0
    code: int | None = field(default=None)
    listener: Listener | None = None  # For a part that reports regularly that it is alive.
    heard_at: float | None = None  # Time of the last report of the current process.
    tell: Callable[[str, str], None] = _nobody  # Tell a person of an alarm: its key, and what is wrong.

    def keep_running(self, now: float) -> None:
        """Start the process if it is not running and its time has come."""
        if self.process is not None and self.process.poll() is None:
            self._end_if_silent(now)
            return
        if self.process is not None:
            self._died(now)
        if now >= self.start_at and self.code is None:
            told = {"NOTIFY_SOCKET": self.listener.address} if self.listener else {}
            self.process = subprocess.Popen(self.argv, stdin=subprocess.DEVNULL, env={**_environment(), **told})
            self.started, self.heard_at = now, None

    def _end_if_silent(self, now: float) -> None:
        """Kill a process that has reported before, and then not for `SILENT_SECONDS`: its loop stands still."""
        if self.listener is None or self.process is None:
            return
        if ALIVE in self.listener.heard():
            self.heard_at = now
        elif self.heard_at is not None and now - self.heard_at > SILENT_SECONDS:
            alarm(
                Event.PROGRAM,
                program=self.name,
                silent_for=round(now - self.heard_at),
                remedy="it is started again",
            )
            self.tell(self.name, f"the {self.name} was silent for a minute; it is started again")
            self.heard_at = None
            self.process.kill()

    def _died(self, now: float) -> None:
        assert self.process is not None
        code = self.process.returncode
        self.process = None
        if code == CONFIGURATION:
            self.code = code
            return
        self.failures = 1 if now - self.started > STEADY_SECONDS else self.failures + 1
        self.start_at = now + min(LONGEST_WAIT, 2.0 ** (self.failures - 1))
        alarm(Event.PROGRAM, program=self.name, ended_with=code, restart_in=round(self.start_at - now))
        if self.failures == FAILURES_TO_TELL:
            self.tell(self.name, f"the {self.name} has ended {self.failures} times in a row; see its log")


def check_apart(settings: Settings) -> None:
    """Raise Configuration with a line for each error of the site, before anything starts.

    A child process looks, because the checks import what every part of the site needs, four times what `up` holds
    while it watches the parts. Call this before any thread is started.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as child:
        child.submit(_check, settings).result()


def _check(settings: Settings) -> None:
    from pipeline.commands.check import refuse_what_is_wrong  # noqa: PLC0415  # only the child loads it

    refuse_what_is_wrong(settings)


def up(settings: Settings, site_file: Path, logging_options: Sequence[str] = ()) -> int:
    """Run every receiver, the worker and, with a [shim], HTTP until SIGTERM or Ctrl-C; return the exit code.

    A part that ends with a configuration error (78) ends the site, because half a site would look like a whole
    one.
    """
    stopping = threading.Event()
    end_by(stopping.set, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    command = (sys.executable, "-I", "-m", "pipeline", *logging_options, "--site", str(site_file))
    listener = Listener()
    parts = [SiteProcess("worker", (*command, "work"), listener=listener)]
    ours = [receiver.name for receiver in settings.receiver if receiver.mode != "external"]
    parts += [SiteProcess(f"receiver {name}", (*command, "receive", name)) for name in ours]
    parts += [SiteProcess("shim", (*command, "serve"))] if settings.has_shim else []
    alarms = PartAlarms(settings.alarm)
    for part in parts:
        part.tell = alarms.tell
    try:
        while not stopping.is_set():
            for part in parts:
                part.keep_running(time.monotonic())
            if wrong := next((part for part in parts if part.code is not None), None):
                alarm(Event.PROGRAM, program=wrong.name, ended_with=wrong.code, remedy="see its message above")
                return CONFIGURATION
            stopping.wait(0.2)
    finally:
        _stop(parts)
        listener.close()
    return 0


def _environment() -> dict[str, str]:
    """Return our environment without the socket of our own service manager: our parts are not the service."""
    return {name: value for name, value in os.environ.items() if name != "NOTIFY_SOCKET"}


def _stop(parts: list[SiteProcess]) -> None:
    running = [part.process for part in parts if part.process is not None and part.process.poll() is None]
    for process in running:
        process.terminate()
    deadline = time.monotonic() + GRACE_SECONDS
    for process in running:
        try:
            process.wait(max(0.1, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
