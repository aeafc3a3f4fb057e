"""Who may come in, and how many at once (association mode).

A connection stands at the door until its request has been read, and has a seat from then on; each is bounded
by itself, so that peers who connect and say nothing take no seat from those who speak.
"""

import threading
from collections import Counter
from collections.abc import Callable
from fnmatch import fnmatchcase
from ipaddress import ip_address

from pipeline.receiving.peek import Proposal
from pipeline.receiving.rejection import (
    CALLED_AE_TITLE_NOT_RECOGNIZED,
    CALLING_AE_TITLE_NOT_RECOGNIZED,
    LOCAL_LIMIT_EXCEEDED,
    TEMPORARY_CONGESTION,
    Rejection,
)
from pipeline.site.settings import ReceiverTable

MORE_AT_THE_DOOR = 16  # so many over the bounds are still told so in the standard's words


class TurnedAway(Exception):
    """Say why a peer may not come in; without a `rejection` he is not even answered."""

    def __init__(self, why: str, rejection: Rejection | None = None) -> None:
        super().__init__(why)
        self.rejection = rejection


class _Places:
    """So many in all, so many of one peer."""

    def __init__(self, in_all: int, per_peer: int) -> None:
        self._in_all = in_all
        self._per_peer = per_peer
        self._taken: Counter[str] = Counter()

    def take(self, peer: str) -> None:
        if self._taken[peer] >= self._per_peer:
            raise TurnedAway(
                f"its address has {self._per_peer} connections already (max_associations_per_peer)",
                LOCAL_LIMIT_EXCEEDED,
            )
        if self._taken.total() >= self._in_all:
            raise TurnedAway(
                f"there are {self._in_all} connections already (max_associations)", TEMPORARY_CONGESTION
            )
        self._taken[peer] += 1

    def give_back(self, peer: str) -> None:
        self._taken[peer] -= 1
        if not self._taken[peer]:
            del self._taken[peer]


class Entrance:
    """The door of one receiver; `refuses_all` says whether the disk is too full to let anybody in."""

    def __init__(self, receiver: ReceiverTable, refuses_all: Callable[[], bool]) -> None:
        self._receiver = receiver
        self._refuses_all = refuses_all
        self._lock = threading.Lock()
        self._door = _Places(
            receiver.max_associations + MORE_AT_THE_DOOR, receiver.max_associations_per_peer + MORE_AT_THE_DOOR
        )
        self._seats = _Places(receiver.max_associations, receiver.max_associations_per_peer)

    def knock(self, peer: str) -> "Visit":
        """Let a connection stand at the door; raises TurnedAway, before anything is read, where it may not.

        An address that is not allowed learns nothing, not even that this is DICOM.
        """
        allowed = self._receiver.allow_peers
        if allowed is not None and not any(ip_address(peer) in network for network in allowed):
            raise TurnedAway("its address is not in allow_peers")
        try:
            with self._lock:
                self._door.take(peer)
        except TurnedAway as turned:
            raise TurnedAway(f"{turned}, and its request is not read") from turned
        return Visit(self, peer)

    def judge(self, proposal: Proposal) -> None:
        """Raise TurnedAway where an association with these names, or any at all, is refused now."""
        calling, called = self._receiver.allow_calling_ae_titles, self._receiver.allow_called_ae_titles
        if not _is_among(proposal.calling_ae_title, calling):
            raise TurnedAway(
                f"calling AE title {proposal.calling_ae_title} is not in allow_calling_ae_titles",
                CALLING_AE_TITLE_NOT_RECOGNIZED,
            )
        if not _is_among(proposal.called_ae_title, called):
            raise TurnedAway(
                f"called AE title {proposal.called_ae_title} is not in allow_called_ae_titles",
                CALLED_AE_TITLE_NOT_RECOGNIZED,
            )
        if self._refuses_all():
            raise TurnedAway("too little space is left in the spool (refuse_below)", LOCAL_LIMIT_EXCEEDED)

    def move_in(self, peer: str) -> None:
        """Exchange a place at the door for a seat; raises TurnedAway where none is left."""
        with self._lock:
            self._seats.take(peer)
            self._door.give_back(peer)

    def leave(self, peer: str, *, seated: bool) -> None:
        """Give back the place."""
        with self._lock:
            (self._seats if seated else self._door).give_back(peer)


class Visit:
    """One connection's stay; `end` it whatever happens."""

    def __init__(self, entrance: Entrance, peer: str) -> None:
        self.peer = peer
        self._entrance = entrance
        self._seated = False

    def sit(self, proposal: Proposal) -> None:
        """Take a seat for the association proposed; raises TurnedAway, with the rejection to be sent."""
        self._entrance.judge(proposal)
        self._entrance.move_in(self.peer)
        self._seated = True

    def end(self) -> None:
        """Leave."""
        self._entrance.leave(self.peer, seated=self._seated)


def _is_among(title: str, patterns: tuple[str, ...] | None) -> bool:
    return patterns is None or any(fnmatchcase(title, pattern) for pattern in patterns)
