"""Decide what to do about folders that stay and peers that are silent; the time of each look is an argument."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

from pipeline.config.receiver_tables import ReceiverTable

LOOK_SECONDS = 5.0
# Seconds for a peer to open an association, and to close its connection after one.
WITHOUT_ASSOCIATION_SECONDS = 5.0


class Signature(NamedTuple):
    """Values that change when a folder receives: the number of its files, their bytes, the newest change (ns)."""

    files: int
    size: int
    newest_ns: int


class TimeoutStep(IntEnum):
    """What the receiver does after a look; a stronger step has a higher value."""

    WAIT = 0
    FLUSH = 1  # Ask storescp to announce its current study.
    RESTART = 2  # End storescp, admit its folders, and start it again.


@dataclass(slots=True)
class _Seen:
    signature: Signature
    since: float
    flushed_at: float | None = None


@dataclass(slots=True)
class StuckFolders:
    """Remember the study folders of one running storescp.

    `patience` is the most seconds without any change, `answer` the seconds for storescp and the hook after a
    flush.
    """

    patience: float
    answer: float = 1.0
    _seen: dict[str, _Seen] = field(default_factory=dict)

    def look(self, now: float, folders: Mapping[str, Signature], *, connected: bool) -> TimeoutStep:
        """Return what to do after a look at monotonic time `now`.

        A folder unchanged for `patience` was not announced: storescp is asked to flush. If the folder is still
        there at the next look, storescp has forgotten it, and the folder can be admitted safely only after
        storescp's end; that waits until no peer is `connected`.
        """
        self._seen = {name: seen for name, seen in self._seen.items() if name in folders}
        steps = [self._judge(now, name, signature, connected) for name, signature in folders.items()]
        return max(steps, default=TimeoutStep.WAIT)

    def _judge(self, now: float, name: str, signature: Signature, connected: bool) -> TimeoutStep:
        seen = self._seen.get(name)
        if seen is None or seen.signature != signature:
            self._seen[name] = _Seen(signature, now)
            return TimeoutStep.WAIT
        if now - seen.since < self.patience:
            return TimeoutStep.WAIT
        if seen.flushed_at is None:
            seen.flushed_at = now
            return TimeoutStep.FLUSH
        return TimeoutStep.RESTART if now - seen.flushed_at >= self.answer and not connected else TimeoutStep.WAIT


@dataclass(slots=True)
class Idleness:
    """Notice a peer that keeps its connection and sends nothing for `limit` seconds.

    While other peers are `waiting`, the limit is `limit_while_waiting`. Progress is a change in `received`, which
    is compared with its last value, or `busy` seconds of processor time: a large object uses these before any of
    its bytes are in a file, and keep-alives do not.
    """

    limit: float
    limit_while_waiting: float = math.inf
    busy: float = 0.02
    _since: float | None = None
    _received: object = None
    _processor: float = 0.0

    def look(
        self, now: float, received: object, processor: float, *, connected: bool = True, waiting: bool = False
    ) -> bool:
        """Say whether the limit has passed at monotonic time `now`; `processor` is the processor time so far."""
        progress = received != self._received or processor - self._processor >= self.busy
        if self._since is None or progress or not connected:
            self._since, self._received, self._processor = now, received, processor
        return now - self._since >= min(self.limit, self.limit_while_waiting if waiting else math.inf)

    def silence(self, now: float) -> float:
        """Return the seconds since the last progress."""
        return now - self._since if self._since is not None else 0.0


@dataclass(slots=True)
class WithoutAssociation:
    """Remember since when a peer has been connected without an open association."""

    _peers: frozenset[tuple[str, int]] = frozenset()
    _since: float = 0.0

    def look(self, now: float, peers: frozenset[tuple[str, int]], *, is_open: bool) -> bool:
        """Say whether the peers have been without association for too long at monotonic time `now`.

        `peers` are those connected now; `is_open` says that an association is open.
        """
        if is_open or peers != self._peers:
            self._peers, self._since = peers, now
        return bool(peers) and now - self._since >= WITHOUT_ASSOCIATION_SECONDS


@dataclass(slots=True)
class AssociationTimeouts:
    """Two time-outs that end an association: `idle_timeout` and `association_timeout` of its receiver."""

    receiver: ReceiverTable
    began: float
    _idleness: Idleness = field(init=False)
    _told: bool = False

    def __post_init__(self) -> None:
        self._idleness = Idleness(self.receiver.idle_timeout.total_seconds())

    def next_look(self, now: float) -> float:
        """Return the seconds until the next look."""
        total = self.receiver.association_timeout
        left = self.began + total.total_seconds() - now if total and not self._told else LOOK_SECONDS
        return max(min(LOOK_SECONDS, self._idleness.limit, left), 0.0)

    def look(self, now: float, received: object, processor: float) -> str | None:
        """Return once why the association must end at monotonic time `now`; None while it may go on, and later."""
        total = self.receiver.association_timeout
        if self._told:
            return None
        if self._idleness.look(now, received, processor):
            self._told = True
            return f"brought nothing for {self._idleness.limit:g} s (idle_timeout)"
        if total and now - self.began >= total.total_seconds():
            self._told = True
            return f"was open for {total.total_seconds():g} s (association_timeout)"
        return None


def back_off(failures: int) -> float:
    """Return the seconds to wait before storescp starts again, after so many failures in a row."""
    return float(min(2 ** max(failures - 1, 0), 30))
