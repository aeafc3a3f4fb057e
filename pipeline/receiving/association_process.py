"""Serve one association, from its request to the admission of its folder: profile, storescp, folder, envelope.

storescp's exit code is 0 after a release, an abort and a broken connection alike, so it is ignored: the end of the
process is the end of the association, and an incomplete last file was never acknowledged.
"""

import contextlib
import os
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from pipeline import dcmtk
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Transient
from pipeline.events import Event, alarm
from pipeline.receiving import listening_port, sweep
from pipeline.receiving.peek import AssociateRequest
from pipeline.receiving.program_log import CHUNK, ProgramLog
from pipeline.receiving.stuck_folders import AssociationTimeouts
from pipeline.spool.durable import flush_path
from pipeline.spool.envelope import ENVELOPE, Envelope, write_envelope
from pipeline.spool.spool import Spool


@dataclass(frozen=True, slots=True)
class AssociationServer:
    """Serve associations of one receiver, each in the caller's thread.

    `lock` is the file descriptor that every storescp inherits.
    """

    receiver: ReceiverTable
    spool: Spool
    storescp: Path
    environment: dict[str, str]
    lock: int

    def serve(
        self,
        connection: socket.socket,
        proposal: AssociateRequest,
        peer: str,
        name: str,
        started: Callable[[subprocess.Popen[bytes]], None],
    ) -> None:
        """Receive an association into a folder `name` and admit it; its request is still unread on `connection`.

        Calls `started` with the storescp process, and closes `connection`. Raises Transient if the association
        cannot be served now.
        """
        incoming = self.spool.incoming_of(self.receiver.name)
        folder = incoming / name
        try:
            self._open(folder, proposal, peer)
            self._receive(connection, proposal, peer, folder, started)
        finally:
            sweep.take(incoming, folder)

    def _open(self, folder: Path, proposal: AssociateRequest, peer: str) -> None:
        envelope = Envelope(
            proposal.calling_ae_title, proposal.called_ae_title, peer, self.receiver.name, time.time_ns()
        )
        try:
            folder.mkdir(mode=0o750)
            write_envelope(folder, envelope, durably=False)
        except OSError as error:
            raise Transient(f"{folder} cannot be opened: {error}") from error

    def _make_durable(self, folder: Path) -> None:
        """Return when the envelope is on the disk; storescp starts meanwhile, so that the peer does not wait.

        Admission flushes the folder again. If an object survives a power cut before that, so does its envelope.
        """
        try:
            flush_path(folder / ENVELOPE)
            flush_path(folder)
        except OSError as error:
            raise Transient(f"{folder} cannot be kept: {error}") from error

    def _receive(
        self,
        connection: socket.socket,
        proposal: AssociateRequest,
        peer: str,
        folder: Path,
        started: Callable[[subprocess.Popen[bytes]], None],
    ) -> None:
        hears, tells = os.pipe()
        with os.fdopen(hears, "rb", 0) as output:
            with os.fdopen(tells, "wb", 0) as voice:
                process = self._start(connection, proposal, folder, voice.fileno())
            try:
                connection.close()
                started(process)
                self._make_durable(folder)
                self._attend(process, output.fileno(), folder, peer, proposal.calling_ae_title)
            finally:  # The folder is renamed next, which must not happen under a living storescp.
                process.kill()
                process.wait()

    def _start(
        self, connection: socket.socket, proposal: AssociateRequest, folder: Path, tells: int
    ) -> subprocess.Popen[bytes]:
        profile = dcmtk.profile_text(dcmtk.proposed_sop_classes(proposal.abstract_syntaxes))
        with (
            self._nameless(profile) as profile_fd,
            self._nameless(dcmtk.log_configuration(_name(tells))) as log_fd,
        ):
            connection.setblocking(True)
            return dcmtk.start(
                dcmtk.storescp_inetd_argv(
                    self.storescp,
                    self.receiver,
                    folder=folder,
                    profile=_name(profile_fd),
                    log_configuration=_name(log_fd),
                ),
                self.environment,
                stdin=connection.fileno(),
                output=tells,
                inherited=(self.lock, tells, profile_fd, log_fd),
            )

    @contextlib.contextmanager
    def _nameless(self, text: str) -> Iterator[int]:
        """Yield the descriptor of a file without a name, which disappears when the last process with it ends."""
        with tempfile.TemporaryFile(dir=self.spool.run) as file:
            file.write(text.encode("ascii"))
            file.seek(0)
            yield file.fileno()

    def _attend(
        self, process: subprocess.Popen[bytes], hears: int, folder: Path, peer: str, calling_ae_title: str
    ) -> None:
        """Log storescp's output until its end, and terminate it when a time-out of the association has passed."""
        output, limits = (
            ProgramLog(self.receiver.name, lambda: peer, calling_ae_title),
            AssociationTimeouts(self.receiver, time.monotonic()),
        )
        about = psutil.Process(process.pid)
        poll = select.poll()
        poll.register(hears, select.POLLIN)
        chunk, looked, due = b"-", False, time.monotonic() + limits.next_look(time.monotonic())
        while chunk:
            if poll.poll(1000 * max(due - time.monotonic(), 0.0)):
                chunk = os.read(hears, CHUNK)  # An empty chunk means that no process can write any more.
                output.hear(chunk)
            now = time.monotonic()
            if looked and now < due:
                continue  # A look reads the whole folder, so it is not done for each of storescp's many lines.
            reason = limits.look(now, sweep.signature_of(folder), listening_port.processor_seconds(about))
            looked, due = True, now + limits.next_look(now)
            if reason:
                alarm(Event.REFUSED, receiver=self.receiver.name, folder=folder.name, reason=reason)
                process.terminate()


def _name(descriptor: int) -> str:
    """Return the file name under which a child opens this inherited descriptor."""
    return f"/dev/fd/{descriptor}"
