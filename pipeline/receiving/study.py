"""Study mode: one permanent storescp, which calls the hook at the end of a study (design 4).

The hook is a hint. While storescp lives only the hook renames its folders; what no hook announced is found
by looking, announced again by SIGCHLD, and in the end taken while no storescp runs.
"""

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline import dcmtk
from pipeline.config.certificates import certificates_of
from pipeline.errors import Configuration
from pipeline.events import Event, alarm, emit
from pipeline.receiving import door, sweep
from pipeline.receiving.output import CHUNK, Output
from pipeline.receiving.signals import Signals
from pipeline.receiving.watch import Idleness, Signature, Step, Watch, back_off
from pipeline.site.settings import ReceiverTable, Settings
from pipeline.site.space import SpaceWatch
from pipeline.spool.spool import Spool, hook_file, write_durably

MARGIN_SECONDS = 5  # storescp's own end-of-study comes first
IDLE_SECONDS = 300  # with -tos a silent peer would hold the one process for ever
IDLE_WHILE_WAITING_SECONDS = 30  # while others stand in line; DCMTK's senders wait so long, others less
STEADY_SECONDS = 60  # a storescp that lived so long did not die of its configuration
START_SECONDS = 10
STOP_SECONDS = 10


@dataclass(frozen=True, slots=True)
class _End:
    """Why a storescp has ended; after one that failed the next waits a little."""

    reason: str
    failed: bool = False


class StudyReceiver:
    """Keep one storescp alive, and lose nothing when it is not."""

    def __init__(self, settings: Settings, receiver: ReceiverTable, spool: Spool, lock: int) -> None:
        self._receiver = receiver
        self._spool = spool
        self._lock = lock
        self._incoming = spool.incoming_of(receiver.name)
        self._space = SpaceWatch(spool.root, settings.site, receiver.name)
        self._environment = dcmtk.environment(settings.programs)
        self._argv = self._arguments(settings)
        self._look_seconds = min(max(receiver.quiet_seconds / 2, 1), MARGIN_SECONDS)

    def _arguments(self, settings: Settings) -> tuple[str, ...]:
        receiver = self._receiver
        profile = self._spool.run / f"{receiver.name}.profile"
        write_durably(profile, dcmtk.profile_text(dcmtk.study_sop_classes(receiver.more_sop_classes)).encode())
        hook = study_hook(self._incoming)
        storescp = dcmtk.program(settings.programs, "storescp")
        refuse_unsafe(storescp)
        argv = dcmtk.storescp_study_argv(storescp, receiver, incoming=self._incoming, profile=profile, hook=hook)
        return dcmtk.encrypted(argv, certificates_of(settings, receiver))

    def serve(self, signals: Signals) -> int:
        """Receive until asked to stop; raises Configuration where storescp cannot start at all."""
        door.require_free_port(self._receiver)
        failures, ever_listened = 0, False
        while self._has_room(signals):
            started = time.monotonic()
            with self._storescp() as process:
                listens = self._has_opened(process, signals)
                was_killed = not listens and (process.poll() or 0) < 0  # short of memory: nothing is wrong with it
                ever_listened |= listens
                end = self._attend(process, signals) if listens else _End("does not listen", failed=True)
            sweep.take_all(self._spool, self._receiver.name, "storescp has ended")
            if signals.stop or self._space.refuses:
                continue
            if not ever_listened and not was_killed:
                raise Configuration(
                    f"storescp does not start for receiver {self._receiver.name}: see its lines above"
                )
            alarm(Event.RECEIVER_RESTARTED, receiver=self._receiver.name, reason=end.reason)
            if end.failed:
                failures = failures + 1 if time.monotonic() - started < STEADY_SECONDS else 1
                signals.pause(back_off(failures))
        emit(Event.RECEIVER_STOPPED, receiver=self._receiver.name)
        return 0

    def _has_room(self, signals: Signals) -> bool:
        """Return True once storescp may run, False when asked to stop; meanwhile the port is closed."""
        while not signals.stop and self._space.look():
            signals.pause(self._look_seconds)
        return not signals.stop

    @contextlib.contextmanager
    def _storescp(self) -> Iterator[subprocess.Popen[bytes]]:
        """Run storescp for the block; afterwards it is dead, and what it said is logged."""
        process = dcmtk.start(self._argv, self._environment, output=subprocess.PIPE, inherited=(self._lock,))
        assert process.stdout is not None
        logger = threading.Thread(target=_log, args=(process.stdout.fileno(), self._receiver.name), daemon=True)
        logger.start()
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            logger.join(STOP_SECONDS)
            process.stdout.close()

    def _has_opened(self, process: subprocess.Popen[bytes], signals: Signals) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while not signals.stop and process.poll() is None and time.monotonic() < deadline:
            if door.listens(psutil.Process(process.pid), self._receiver.port):
                emit(
                    Event.RECEIVER_STARTED,
                    receiver=self._receiver.name,
                    mode=self._receiver.mode,
                    ae_title=self._receiver.ae_title,
                    port=self._receiver.port,
                )
                return True
            signals.wait(0.02)
        return False

    def _attend(self, process: subprocess.Popen[bytes], signals: Signals) -> _End:
        """Look after a living storescp until something ends it; returns why."""
        watch = Watch(self._receiver.quiet_seconds + MARGIN_SECONDS)
        idleness = Idleness(IDLE_SECONDS, IDLE_WHILE_WAITING_SECONDS)
        about = psutil.Process(process.pid)
        old = self._folders()  # from before this storescp, and still there: they could not be admitted
        while not signals.stop:
            signals.wait(self._look_seconds)
            if process.poll() is not None:
                return _End(f"storescp ended with {process.returncode}", failed=True)
            folders, now = self._folders(), time.monotonic()
            connected = door.is_connected(about, self._receiver.port)
            old = {name: signature for name, signature in old.items() if folders.get(name) == signature}
            for name in old:
                sweep.take(self._incoming, self._incoming / name, "older than storescp")
            present = {name: signature for name, signature in folders.items() if name not in old}
            step = watch.look(now, present, connected=connected)
            if step is Step.FLUSH:
                emit(Event.FLUSHED, receiver=self._receiver.name)
                process.send_signal(signal.SIGCHLD)
            elif step is Step.RESTART:
                return _End("a study was not announced")
            waiting = door.waiting(self._receiver.port)
            busy = door.processor_seconds(about)
            if idleness.look(now, folders, busy, connected=connected, waiting=waiting > 0):
                return _End(f"a peer was silent for {idleness.silence(now):.0f} s, {waiting} others waiting")
            if self._space.look() and (self._space.is_desperate or not (connected or present)):
                return _End("the disk is full")
        return _End("asked to stop")

    def _folders(self) -> Mapping[str, Signature]:
        """Return what lies in the incoming folder, without folders no file is in yet."""
        found = {folder.name: sweep.signature_of(folder) for folder in sweep.leftovers(self._incoming)}
        return {name: signature for name, signature in found.items() if signature.files}


def _log(descriptor: int, receiver: str) -> None:
    output, chunk = Output(receiver), b"-"
    while chunk:
        chunk = os.read(descriptor, CHUNK)
        output.hear(chunk)


def study_hook(incoming: Path) -> str:
    """Return the hook's command line for this installation; raises Configuration naming an unfit path."""
    try:
        return dcmtk.hook_command(Path(sys.executable), hook_file(), incoming, f"end-{secrets.token_hex(16)}")
    except dcmtk.NoRoomInShell as error:
        raise Configuration(f"{error}; install or configure it elsewhere") from error


def refuse_unsafe(storescp: Path) -> None:
    """Raise Configuration where this build of storescp must not run in study mode."""
    holes = [hole for hole in dcmtk.holes(dcmtk.version(storescp, "storescp")) if hole.forbids_study_mode]
    if holes:
        raise Configuration("\n".join(f"{storescp}: {hole.sentence}" for hole in holes))
