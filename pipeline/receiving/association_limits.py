"""Limit who may open an association, and how many may be open at once (association mode).

Two limits apply: one to connections whose request has not been read yet, one to open associations. Peers that
connect and send nothing therefore take no association from others. If the first limit is reached, the address with
the most silent connections loses one to an address with fewer, so that a few addresses cannot exclude others.
"""

import contextlib
import socket
import threading
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from ipaddress import ip_address

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.receiving.peek import AssociateRequest
from pipeline.receiving.reject_association import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    AssociateReject,
)

MORE_AT_THE_DOOR = 16  # So many connections beyond the limits still receive an A-ASSOCIATE-RJ.


class AssociationRefused(Exception):
    """Say why a peer is refused; without a `rejection` the connection is closed without an answer."""

    def __init__(self, why: str, rejection: AssociateReject | None = None) -> None:
        super().__init__(why)
        self.rejection = rejection


class _Slots:
    """Count the open associations, and refuse more than a number in all, or of one peer."""

    def __init__(self, in_all: int, per_peer: int) -> None:
        self._in_all = in_all
        self._per_peer = per_peer
        self._taken: Counter[str] = Counter()

    def take(self, peer: str) -> None:
        if self._taken[peer] >= self._per_peer:
            raise AssociationRefused(
                f"its address has {self._per_peer} connections already (max_associations_per_peer)",
                LOCAL_LIMIT_EXCEEDED,
            )
        if self._taken.total() >= self._in_all:
            raise AssociationRefused(
                f"there are {self._in_all} connections already (max_associations)", TEMPORARY_CONGESTION
            )
        self._taken[peer] += 1

    def give_back(self, peer: str) -> None:
        self._taken[peer] -= 1
        if not self._taken[peer]:
            del self._taken[peer]


class _UnreadRequests:
    """The connections whose request has not been read yet, the oldest first."""

    def __init__(self, in_all: int, per_peer: int) -> None:
        self._in_all = in_all
        self._per_peer = per_peer
        self._silent: list[AssociationSlot] = []

    def add(self, visit: "AssociationSlot") -> None:
        """Reserve a place, if necessary by closing another connection; raises AssociationRefused without one."""
        counted = Counter(other.peer for other in self._silent)
        own = counted[visit.peer]
        if own >= self._per_peer:
            raise AssociationRefused(
                f"its address has {own} connections that said nothing yet, and its request is not read"
            )
        if len(self._silent) >= self._in_all:
            peer, most = counted.most_common(1)[0]
            if most <= own:
                raise AssociationRefused(
                    f"{self._in_all} connections said nothing yet, and its request is not read"
                )
            self._give_way(next(other for other in self._silent if other.peer == peer))
        self._silent.append(visit)

    def _give_way(self, visit: "AssociationSlot") -> None:
        self._silent.remove(visit)
        visit.hang_up()

    def remove(self, visit: "AssociationSlot") -> None:
        """Remove a connection, which may have lost its place already."""
        if visit in self._silent:
            self._silent.remove(visit)


class AssociationLimits:
    """The limits of one receiver; `refuses_all` says that the disk is too full for any association."""

    def __init__(self, receiver: ReceiverTable, refuses_all: Callable[[], bool]) -> None:
        self._receiver = receiver
        self._refuses_all = refuses_all
        self._lock = threading.Lock()
        self._door = _UnreadRequests(
            receiver.max_associations + MORE_AT_THE_DOOR, receiver.max_associations_per_peer + MORE_AT_THE_DOOR
        )
        self._seats = _Slots(receiver.max_associations, receiver.max_associations_per_peer)

    def reserve(self, peer: str, connection: socket.socket | None = None) -> "AssociationSlot":
        """Reserve a place for a connection before anything is read from it; raises AssociationRefused without one.

        An address that is not allowed gets no answer, so it does not learn that this is DICOM. `connection` is
        shut down if its place is needed for a connection from another address.
        """
        allowed = self._receiver.allow_peers
        if allowed is not None and not any(ip_address(peer) in network for network in allowed):
            raise AssociationRefused("its address is not in allow_peers")
        visit = AssociationSlot(self, peer, connection.dup() if connection else None)
        try:
            with self._lock:
                self._door.add(visit)
        except AssociationRefused:
            visit.close()
            raise
        return visit

    def judge(self, proposal: AssociateRequest) -> None:
        """Raise AssociationRefused if an association with these AE titles, or any association, is refused now."""
        calling, called = self._receiver.allow_calling_ae_titles, self._receiver.allow_called_ae_titles
        # storescp neither answers nor closes after a blank AE title, which is invalid (PS3.8 9.3.2).
        if not proposal.calling_ae_title:
            raise AssociationRefused("its calling AE title is blank", CALLING_AE_TITLE_NOT_RECOGNIZED)
        if not proposal.called_ae_title:
            raise AssociationRefused("the AE title it calls is blank", CALLED_AE_TITLE_NOT_RECOGNIZED)
        if not _is_among(proposal.calling_ae_title, calling):
            raise AssociationRefused(
                f"calling AE title {proposal.calling_ae_title} is not in allow_calling_ae_titles",
                CALLING_AE_TITLE_NOT_RECOGNIZED,
            )
        if not _is_among(proposal.called_ae_title, called):
            raise AssociationRefused(
                f"called AE title {proposal.called_ae_title} is not in allow_called_ae_titles",
                CALLED_AE_TITLE_NOT_RECOGNIZED,
            )
        if self._refuses_all():
            raise AssociationRefused("too little space is left in the spool (refuse_below)", LOCAL_LIMIT_EXCEEDED)

    def accept(self, visit: "AssociationSlot") -> None:
        """Turn a connection into an association; raises AssociationRefused if no place is left."""
        with self._lock:
            self._seats.take(visit.peer)
            self._door.remove(visit)

    def release(self, visit: "AssociationSlot", *, seated: bool) -> None:
        """Release the place of a connection; `seated` says that the connection had become an association."""
        with self._lock:
            if seated:
                self._seats.give_back(visit.peer)
            else:
                self._door.remove(visit)


class AssociationSlot:
    """The place of one connection; the caller must `end` it in every case.

    `gave_way` says that the connection was shut down, because another address needed the place.
    """

    def __init__(self, entrance: AssociationLimits, peer: str, connection: socket.socket | None) -> None:
        self.peer = peer
        self.gave_way = False
        self._entrance = entrance
        self._connection = connection  # Our own handle; the other handle is passed on to storescp.
        self._seated = False

    def accept(self, proposal: AssociateRequest) -> None:
        """Accept the proposed association; raises AssociationRefused, with the rejection to send."""
        self._entrance.judge(proposal)
        self._entrance.accept(self)
        self._seated = True
        self.close()

    def hang_up(self) -> None:
        """Shut the connection down, so that the thread that reads its request stops waiting."""
        self.gave_way = True
        if self._connection:
            with contextlib.suppress(OSError):  # The peer may have closed the connection already.
                self._connection.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close our handle, which would keep the connection open after storescp has closed it."""
        if self._connection:
            self._connection.close()

    def end(self) -> None:
        """Release the place and close the handle."""
        self._entrance.release(self, seated=self._seated)
        self.close()


def _is_among(title: str, patterns: tuple[str, ...] | None) -> bool:
    return patterns is None or any(fnmatchcase(title, pattern) for pattern in patterns)
