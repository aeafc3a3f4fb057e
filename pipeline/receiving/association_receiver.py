"""Association mode: accept associations, and start a storescp for each (docs/design.md)."""

import itertools
import logging
import socket
import subprocess
import threading
import time
from dataclasses import dataclass

from pipeline import dcmtk
from pipeline.config.certificates import certificates_of, server_context
from pipeline.config.numeric_addresses import numeric
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import StorestowError
from pipeline.events import Event, alarm, bug, emit
from pipeline.receiving import listening_port, sweep, tls_termination
from pipeline.receiving.association_limits import AssociationLimits, AssociationRefused, AssociationSlot
from pipeline.receiving.association_process import AssociationServer
from pipeline.receiving.peek import PATIENCE_SECONDS, NotAnAssociation, SaidNothing, peek
from pipeline.receiving.reject_association import reject
from pipeline.receiving.signal_socket import Signals
from pipeline.receiving.storescp_start import StorescpStarter
from pipeline.site.disk_space import SpaceWatch
from pipeline.site.settings import Settings
from pipeline.site.worker_refusal import RefusalWatch
from pipeline.spool.durable import write_durably
from pipeline.spool.spool import Spool

LOOK_SECONDS = 5.0
LAST_SECONDS = 10.0  # Seconds for associations that are still open when the receiver is asked to stop.
KILL_SECONDS = 5.0


@dataclass(slots=True)
class _OpenAssociation:
    """An open association; `process` is its storescp once it runs."""

    thread: threading.Thread
    process: subprocess.Popen[bytes] | None = None


class _OpenAssociations:
    """The open associations by their number."""

    def __init__(self) -> None:
        self._guests: dict[int, _OpenAssociation] = {}
        self._lock = threading.Lock()
        self._closing = False

    def add(self, number: int, thread: threading.Thread) -> None:
        """Add an association whose thread is about to start."""
        with self._lock:
            self._guests[number] = _OpenAssociation(thread)

    def forget(self, number: int) -> None:
        """Remove an association that has ended."""
        with self._lock:
            del self._guests[number]

    def remember(self, number: int, process: subprocess.Popen[bytes]) -> None:
        """Add the storescp of an association; terminate it at once after `end_all`."""
        with self._lock:
            self._guests[number].process = process
            if self._closing:
                process.terminate()

    def end_all(self) -> None:
        """Terminate every storescp, and those that start later."""
        with self._lock:
            self._closing = True
            running = [guest.process for guest in self._guests.values() if guest.process]
        for process in running:
            process.terminate()

    def join(self, seconds: float) -> None:
        """Return when all threads have ended, at the latest after `seconds`."""
        deadline = time.monotonic() + seconds
        with self._lock:
            threads = [guest.thread for guest in self._guests.values()]
        for thread in threads:
            thread.join(max(deadline - time.monotonic(), 0))


class AssociationReceiver:
    """Accept associations in parallel, each in a thread, and admit each folder at the end."""

    def __init__(self, settings: Settings, receiver: ReceiverTable, spool: Spool, lock: int) -> None:
        self._receiver = receiver
        self._spool = spool
        certificates = certificates_of(settings, receiver)
        self._tls = server_context(certificates) if certificates else None
        self._starter = StorescpStarter(
            receiver,
            spool.incoming_of(receiver.name),
            dcmtk.program(settings.programs, "storescp"),
            _environment(settings, receiver.name, spool),
            lock,
            keeps_one=self._tls is None,  # Its bytes take one way round already.
        )
        self._attendant = AssociationServer(receiver, spool, self._starter)
        self._space = SpaceWatch(spool.root, settings.site, receiver.name)
        self._worker = RefusalWatch(spool, receiver.name)
        self._entrance = AssociationLimits(receiver, lambda: self._space.refuses)
        self._guests = _OpenAssociations()
        self._numbers = itertools.count(1)

    def serve(self, signals: Signals) -> int:
        """Receive until asked to stop; raises Configuration if the port cannot be opened."""
        with open_listener(self._receiver) as listener:
            emit(
                Event.RECEIVER_STARTED,
                receiver=self._receiver.name,
                mode=self._receiver.mode,
                ae_title=self._receiver.ae_title,
                port=self._receiver.port,
            )
            self._space.look()
            looked_at = time.monotonic()
            while not signals.stop:
                if signals.wait(LOOK_SECONDS, [listener]):
                    self._space.look()
                    self._accept(listener, signals)
                if time.monotonic() - looked_at >= LOOK_SECONDS:
                    self._space.look()
                    self._worker.look()
                    self._sweep()
                    self._starter.end_idle()
                    looked_at = time.monotonic()
        self._close()
        emit(Event.RECEIVER_STOPPED, receiver=self._receiver.name)
        return 0

    def _accept(self, listener: socket.socket, signals: Signals) -> None:
        try:
            connection, address = listener.accept()
        except OSError as error:  # The peer has gone already, or no file descriptors are left.
            alarm(Event.REFUSED, receiver=self._receiver.name, reason=f"cannot accept: {error}")
            signals.pause(0.1)
            return
        try:
            visit = self._entrance.reserve(peer_of(address), connection)
        except (AssociationRefused, OSError) as turned:
            connection.close()
            self._refused(peer_of(address), turned)
            return
        number = next(self._numbers)
        thread = threading.Thread(target=self._attend, args=(connection, visit, number), daemon=True)
        self._guests.add(number, thread)
        try:
            thread.start()
        except RuntimeError as error:  # The machine has no thread left: this peer may try again.
            self._guests.forget(number)
            visit.end()
            connection.close()
            alarm(Event.REFUSED, receiver=self._receiver.name, reason=error)

    def _attend(self, connection: socket.socket, visit: AssociationSlot, number: int) -> None:
        try:
            with connection:
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._serve(connection, visit, number)
        except SaidNothing:
            if visit.gave_way:
                self._refused(visit.peer, AssociationRefused("it said nothing, and gave way to another address"))
        except (AssociationRefused, NotAnAssociation, StorestowError, OSError) as error:
            self._refused(visit.peer, error)
        except Exception as error:  # noqa: BLE001  # a bug must cost one association, not the receiver
            alarm(Event.REFUSED, receiver=self._receiver.name, peer=visit.peer, reason="a bug, see the next line")
            bug(f"association {number}", error)
        finally:
            visit.end()
            self._guests.forget(number)

    def _serve(self, connection: socket.socket, visit: AssociationSlot, number: int) -> None:
        with tls_termination.opened(connection, self._tls, PATIENCE_SECONDS) as plain:
            proposal = peek(plain)
            try:
                visit.accept(proposal)
            except AssociationRefused as turned:
                if turned.rejection:
                    reject(plain, turned.rejection)
                raise
            self._attendant.serve(
                plain, proposal, visit.peer, lambda process: self._guests.remember(number, process)
            )

    def _refused(self, peer: str, reason: Exception) -> None:
        emit(Event.REFUSED, logging.WARNING, receiver=self._receiver.name, peer=peer, reason=reason)

    def _sweep(self) -> None:
        """Admit the folders that could not be admitted when their association ended."""
        incoming = self._spool.incoming_of(self._receiver.name)
        found = sweep.leftovers(incoming)
        served = self._attendant.folders()  # After the look: a folder is named here before it is made.
        for folder in found:
            if folder.name not in served:
                sweep.take(incoming, folder, "left by an association")

    def _close(self) -> None:
        """Let running associations finish within LAST_SECONDS, end the others, and admit all folders."""
        self._starter.close()
        self._guests.join(LAST_SECONDS)
        self._guests.end_all()
        self._guests.join(KILL_SECONDS)
        self._sweep()


def _environment(settings: Settings, receiver: str, spool: Spool) -> dict[str, str]:
    """Return the environment of an association's storescp, with the site's own dictionary or a short one."""
    environment = dcmtk.environment(settings.programs)
    environment["OPENSSL_CONF"] = "/dev/null"  # It takes 1 ms to read; TLS ends before storescp.
    if "DCMDICTPATH" not in environment:
        dictionary = dcmtk.command_dictionary_file(spool.run, receiver)
        write_durably(dictionary, dcmtk.command_dictionary().encode("ascii"))
        environment["DCMDICTPATH"] = str(dictionary)
    return environment


def open_listener(receiver: ReceiverTable) -> socket.socket:
    """Return a socket that listens for the receiver; raises Configuration, which names the port."""
    try:
        return listening_port.listen(receiver)
    except OSError as error:
        raise listening_port.unusable(receiver, error) from error


def peer_of(address: tuple[str, int] | tuple[str, int, int, int]) -> str:
    """Return the numeric address of a peer as people write it: 192.0.2.7 for ::ffff:192.0.2.7."""
    return numeric(address[0])
