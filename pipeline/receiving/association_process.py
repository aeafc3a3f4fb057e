"""Serve one association, from its request to the admission of its folder: profile, storescp, folder, envelope.

storescp's exit code is 0 after a release, an abort and a broken connection alike, so it is ignored: the end of the
process is the end of the association, and an incomplete last file was never acknowledged.
"""

import os
import select
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from pipeline import dcmtk
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Transient
from pipeline.events import Event, alarm
from pipeline.receiving import listening_port, sweep
from pipeline.receiving.peek import AssociateRequest
from pipeline.receiving.program_log import CHUNK, ProgramLog
from pipeline.receiving.storescp_start import StartedStorescp, StorescpStarter
from pipeline.receiving.stuck_folders import AssociationTimeouts
from pipeline.spool.durable import flush_path
from pipeline.spool.envelope import ENVELOPE, Envelope, write_envelope
from pipeline.spool.spool import Spool


class AssociationServer:
    """Serve associations of one receiver, each in the caller's thread."""

    def __init__(self, receiver: ReceiverTable, spool: Spool, starter: StorescpStarter) -> None:
        self._receiver = receiver
        self._spool = spool
        self._starter = starter
        self._names: set[str] = set()
        self._lock = threading.Lock()

    def serve(
        self,
        connection: socket.socket,
        proposal: AssociateRequest,
        peer: str,
        started: Callable[[subprocess.Popen[bytes]], None],
    ) -> None:
        """Receive an association into a folder and admit it; its request is still unread on `connection`.

        Calls `started` with the storescp process, and closes `connection`. Raises Transient if the association
        cannot be served now.
        """
        storescp = self._starter.started(connection)
        folder = storescp.folder
        with self._lock:
            self._names.add(folder.name)
        try:
            try:
                started(storescp.process)
                self._open(folder, proposal, peer)
                profile = dcmtk.profile_text(dcmtk.proposed_sop_classes(proposal.abstract_syntaxes))
                storescp.proceed(connection, profile)
                self._make_durable(folder)
                self._attend(storescp, peer, proposal.calling_ae_title)
            finally:  # The folder is renamed next, which must not happen under a living storescp.
                storescp.end()
        finally:
            sweep.take(folder.parent, folder)
            with self._lock:
                self._names.discard(folder.name)
            storescp.close()
        self._starter.keep_one()

    def folders(self) -> set[str]:
        """Return the names of the folders that associations are received into; no other folder is in use."""
        with self._lock:
            return set(self._names)

    def _open(self, folder: Path, proposal: AssociateRequest, peer: str) -> None:
        envelope = Envelope(
            proposal.calling_ae_title, proposal.called_ae_title, peer, self._receiver.name, time.time_ns()
        )
        try:
            folder.mkdir(mode=0o750)
            write_envelope(folder, envelope, durably=False)
        except OSError as error:
            raise Transient(f"{folder} cannot be opened: {error}") from error

    def _make_durable(self, folder: Path) -> None:
        """Return when the envelope is on the disk; storescp goes on meanwhile, so that the peer does not wait.

        Admission flushes the folder again. If an object survives a power cut before that, so does its envelope.
        """
        try:
            flush_path(folder / ENVELOPE)
            flush_path(folder)
        except OSError as error:
            raise Transient(f"{folder} cannot be kept: {error}") from error

    def _attend(self, storescp: StartedStorescp, peer: str, calling_ae_title: str) -> None:
        """Log storescp's output until its end, and terminate it when a time-out of the association has passed."""
        output, limits = (
            ProgramLog(self._receiver.name, lambda: peer, calling_ae_title),
            AssociationTimeouts(self._receiver, time.monotonic()),
        )
        about = psutil.Process(storescp.process.pid)
        poll = select.poll()
        poll.register(storescp.output, select.POLLIN)
        chunk, looked, due = b"-", False, time.monotonic() + limits.next_look(time.monotonic())
        while chunk:
            if poll.poll(1000 * max(due - time.monotonic(), 0.0)):
                chunk = os.read(storescp.output, CHUNK)  # An empty chunk means that no process can write any more.
                output.hear(chunk)
            now = time.monotonic()
            if looked and now < due:
                continue  # A look reads the whole folder, so it is not done for each of storescp's many lines.
            reason = limits.look(now, sweep.signature_of(storescp.folder), listening_port.processor_seconds(about))
            looked, due = True, now + limits.next_look(now)
            if reason:
                alarm(Event.REFUSED, receiver=self._receiver.name, folder=storescp.folder.name, reason=reason)
                storescp.process.terminate()
