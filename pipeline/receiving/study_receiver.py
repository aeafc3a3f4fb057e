"""Study mode: one permanent storescp, which calls the hook at the end of a study (docs/design.md, The way in).

The hook is a hint. While storescp runs, only the hook renames its folders. A folder that no hook announced is
found by a look, announced again after SIGCHLD, and at last admitted while no storescp runs.
"""

import contextlib
import logging
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil

from pipeline import dcmtk
from pipeline.config.certificates import certificates_of
from pipeline.config.numeric_addresses import numeric
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Configuration
from pipeline.events import Event, alarm, emit
from pipeline.receiving import listening_port, sweep
from pipeline.receiving.listening_port import cut_off
from pipeline.receiving.program_log import CHUNK, ProgramLog
from pipeline.receiving.signal_socket import Signals
from pipeline.receiving.stuck_folders import (
    WITHOUT_ASSOCIATION_SECONDS,
    Idleness,
    Signature,
    StuckFolders,
    TimeoutStep,
    WithoutAssociation,
    back_off,
)
from pipeline.site.disk_space import SpaceWatch
from pipeline.site.settings import Settings
from pipeline.site.worker_refusal import RefusalWatch
from pipeline.spool.durable import write_durably
from pipeline.spool.spool import Spool, hook_file

OFTEN_SECONDS = 1  # Seconds between looks for a peer that occupies the one storescp without an association.
MARGIN_SECONDS = 5  # Seconds after storescp's own end of study, which must come first.
IDLE_SECONDS = 300  # storescp's -tos does not end an association, so a silent peer would occupy it for ever.
IDLE_WHILE_WAITING_SECONDS = 30  # While other peers wait: DCMTK's senders wait so long, other senders less.
TOGETHER_SECONDS = 0.02  # Lines that come within it are read at once: each wake takes the processor from storescp.
AGAIN_SECONDS = 0.2  # Seconds until a storescp that ended starts again: the sender may go on at once.
START_SECONDS = 10
STOP_SECONDS = 10


class StudyReceiver:
    """Keep one storescp running, and admit its folders whenever it has ended."""

    def __init__(self, settings: Settings, receiver: ReceiverTable, spool: Spool, lock: int) -> None:
        self._receiver = receiver
        self._spool = spool
        self._lock = lock
        self._incoming = spool.incoming_of(receiver.name)
        self._space = SpaceWatch(spool.root, settings.site, receiver.name)
        self._worker = RefusalWatch(spool, receiver.name)
        self._environment = dcmtk.environment(settings.programs)
        write_files(receiver, spool, "/dev/stderr")  # It is a pipe of ours.
        self._argv = storescp_of(settings, receiver, spool, study_hook(spool, receiver.name))
        self._look_seconds = min(max(receiver.quiet_seconds / 2, 1), MARGIN_SECONDS)

    def serve(self, signals: Signals) -> int:
        """Receive until asked to stop; raises Configuration if storescp cannot start at all."""
        listening_port.require_free_port(self._receiver)
        failures, ever_listened = 0, False
        while self._has_room(signals):
            with self._storescp() as (process, output):
                listens = self._has_opened(process, signals)
                # The machine was short of memory: storescp itself is sound.
                was_killed = not listens and (process.poll() or 0) < 0
                ever_listened |= listens
                reason = self._attend(process, output, signals) if listens else "does not listen"
            sweep.take_all(self._spool, self._receiver.name, "storescp has ended")
            if signals.stop or self._space.refuses:
                continue
            if not ever_listened and not was_killed:
                raise Configuration(
                    f"storescp does not start for receiver {self._receiver.name}: see its lines above"
                )
            alarm(Event.RECEIVER_RESTARTED, receiver=self._receiver.name, reason=reason)
            failures = 0 if listens else failures + 1
            signals.pause(back_off(failures) if failures else AGAIN_SECONDS)
        emit(Event.RECEIVER_STOPPED, receiver=self._receiver.name)
        return 0

    def _has_room(self, signals: Signals) -> bool:
        """Return True once the disk has room for storescp, False when asked to stop; no port is open meanwhile."""
        while not signals.stop and self._space.look():
            signals.pause(self._look_seconds)
        return not signals.stop

    @contextlib.contextmanager
    def _storescp(self) -> Iterator[tuple[subprocess.Popen[bytes], ProgramLog]]:
        """Run storescp during the block; after the block it has ended, and all its output is logged."""
        process = dcmtk.start(self._argv, self._environment, output=subprocess.PIPE, inherited=(self._lock,))
        assert process.stdout is not None
        about, port = psutil.Process(process.pid), self._receiver.port
        output = ProgramLog(self._receiver.name, lambda: listening_port.connected_peer(about, port))
        logger = threading.Thread(target=_log, args=(process.stdout.fileno(), output), daemon=True)
        logger.start()
        try:
            yield process, output
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
            if listening_port.listens(psutil.Process(process.pid), self._receiver.port):
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

    def _attend(self, process: subprocess.Popen[bytes], output: ProgramLog, signals: Signals) -> str:
        """Watch a running storescp until it has ended or must be ended, and return why."""
        watch = StuckFolders(self._receiver.quiet_seconds + MARGIN_SECONDS)
        idleness, overstaying = Idleness(IDLE_SECONDS, IDLE_WHILE_WAITING_SECONDS), WithoutAssociation()
        about, port = psutil.Process(process.pid), self._receiver.port
        old = self._folders()  # Folders of an earlier storescp that could not be admitted yet.
        next_look = time.monotonic() + self._look_seconds
        while not signals.stop:
            signals.wait(min(self._look_seconds, OFTEN_SECONDS))
            if process.poll() is not None:
                return f"storescp ended with {process.returncode}"
            peers, now = listening_port.connected_peers(about, port), time.monotonic()
            if overstaying.look(now, peers, is_open=output.has_association):
                self._cut_off(about, peers, f"had no association for {WITHOUT_ASSOCIATION_SECONDS:g} s")
            if now < next_look:
                continue
            next_look = now + self._look_seconds
            self._worker.look()
            folders = self._folders()
            old = self._take_old(old, folders)
            present = {name: signature for name, signature in folders.items() if name not in old}
            step = watch.look(now, present, connected=bool(peers))
            if step is TimeoutStep.FLUSH:
                emit(Event.FLUSHED, receiver=self._receiver.name)
                process.send_signal(signal.SIGCHLD)
            elif step is TimeoutStep.RESTART:
                return "a study was not announced"
            waiting = listening_port.waiting(port)
            busy = listening_port.processor_seconds(about)
            if idleness.look(now, (peers, folders), busy, connected=bool(peers), waiting=waiting > 0):
                reason = f"was silent for {idleness.silence(now):.0f} s, {waiting} others waiting"
                if not self._cut_off(about, peers, reason):
                    return f"a peer {reason}"
            if self._space.look() and (self._space.is_desperate or not (peers or present)):
                return "the disk is full"
        return "asked to stop"

    def _take_old(self, old: Mapping[str, Signature], folders: Mapping[str, Signature]) -> Mapping[str, Signature]:
        """Admit the folders of an earlier storescp that have not changed, and return them."""
        still = {name: signature for name, signature in old.items() if folders.get(name) == signature}
        for name in still:
            sweep.take(self._incoming, self._incoming / name, "older than storescp")
        return still

    def _cut_off(self, process: psutil.Process, peers: frozenset[tuple[str, int]], reason: str) -> bool:
        """Disconnect the peer that occupies the one storescp and log that; return whether it was possible."""
        if not cut_off(process, self._receiver.port):
            return False
        emit(
            Event.REFUSED,
            logging.WARNING,
            receiver=self._receiver.name,
            peer=" ".join(sorted({numeric(address) for address, _ in peers})),
            reason=f"cut off: it {reason}",
        )
        return True

    def _folders(self) -> Mapping[str, Signature]:
        """Return the folders in the incoming folder that have a file, by name."""
        found = {folder.name: sweep.signature_of(folder) for folder in sweep.leftovers(self._incoming)}
        return {name: signature for name, signature in found.items() if signature.files}


def _log(descriptor: int, output: ProgramLog) -> None:
    chunk = b"-"
    while chunk:
        chunk = os.read(descriptor, CHUNK)
        output.hear(chunk)
        if output.has_association:
            time.sleep(TOGETHER_SECONDS)


def write_files(receiver: ReceiverTable, spool: Spool, log_file: str | None = None) -> None:
    """Write the files that the command line of a receiver's permanent storescp names.

    It logs to `log_file`, or else to its standard error, which may be a socket that cannot be opened as a file.
    """
    profile, log = dcmtk.study_files(spool.run, receiver.name)
    write_durably(profile, dcmtk.profile_text(dcmtk.study_sop_classes(receiver.more_sop_classes)).encode())
    write_durably(log, dcmtk.log_configuration(log_file, objects=spool.objects_log(receiver.name)).encode())


def storescp_of(settings: Settings, receiver: ReceiverTable, spool: Spool, hook: str) -> tuple[str, ...]:
    """Return the command line of the receiver's permanent storescp.

    Raises Configuration if this build must not run in study mode, or a certificate does not fit.
    """
    storescp = dcmtk.program(settings.programs, "storescp")
    refuse_unsafe(storescp)
    incoming = spool.incoming_of(receiver.name)
    argv = dcmtk.storescp_study_argv(storescp, receiver, incoming=incoming, run=spool.run, hook=hook)
    return dcmtk.encrypted(argv, certificates_of(settings, receiver))


def study_hook(spool: Spool, receiver: str, *before: Path, hook: str = "study-complete") -> str:
    """Return the command line of a hook for this installation; `before` are words before the incoming folder.

    Raises Configuration, which names the path that cannot be used.
    """
    incoming, objects = spool.incoming_of(receiver), spool.objects_log(receiver)
    words = (Path(sys.executable), hook_file(hook), *before, incoming, objects)
    try:
        return dcmtk.hook_command(*words, delimiter=f"end-{secrets.token_hex(16)}")
    except dcmtk.NoRoomInShell as error:
        raise Configuration(f"{error}; install or configure it elsewhere") from error


def refuse_unsafe(storescp: Path) -> None:
    """Raise Configuration if this build of storescp must not run in study mode."""
    bugs = [bug for bug in dcmtk.known_bugs_of(dcmtk.version(storescp, "storescp")) if bug.forbids_study_mode]
    if bugs:
        raise Configuration("\n".join(f"{storescp}: {bug.sentence}" for bug in bugs))
