"""How much room the spool has left: an alarm before it is full, a refusal before anything is cut.

Below `alarm_below` somebody must look; below `refuse_below` nothing new is let in, and deliveries, which make
room, go on. Coming back takes a tenth more than the mark, so that reception does not flicker.
"""

import shutil
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from pipeline.config.site_table import SiteTable
from pipeline.events import Event, alarm, emit

HYSTERESIS = 1.1


class DiskLevel(IntEnum):
    """How it stands, the worse the higher."""

    ENOUGH = 0
    LOW = 1
    NONE = 2


def judged(free: int, before: DiskLevel, *, alarm_below: int, refuse_below: int) -> DiskLevel:
    """Return how it stands with `free` bytes when it stood as `before`; a mark of 0 is never reached."""
    if free < refuse_below * (HYSTERESIS if before is DiskLevel.NONE else 1):
        return DiskLevel.NONE
    if free < alarm_below * (HYSTERESIS if before is not DiskLevel.ENOUGH else 1):
        return DiskLevel.LOW
    return DiskLevel.ENOUGH


def free_bytes(folder: Path) -> int:
    """Return what a user without privileges may still write to the file system of `folder`."""
    return shutil.disk_usage(folder).free


class SpaceWatch:
    """Watch the spool for one receiver, and tell when it gets better or worse."""

    def __init__(
        self, spool: Path, site: SiteTable, receiver: str, free: Callable[[Path], int] | None = None
    ) -> None:
        self._spool = spool
        self._site = site
        self._receiver = receiver
        self._free = free or free_bytes
        self.room = DiskLevel.ENOUGH
        self.free = 0

    @property
    def refuses(self) -> bool:
        """Say whether nothing new may be let in, as of the last look."""
        return self.room is DiskLevel.NONE

    @property
    def is_desperate(self) -> bool:
        """Say whether half of the last reserve is gone too: then an association under way has to end."""
        return self.refuses and self.free < self._site.refuse_below / 2

    def look(self) -> bool:
        """Look now, and say whether nothing new may be let in."""
        self.free = self._free(self._spool)
        before, self.room = (
            self.room,
            judged(
                self.free,
                self.room,
                alarm_below=self._site.alarm_below,
                refuse_below=self._site.refuse_below,
            ),
        )
        about = {"receiver": self._receiver, "free": self.free, "receiving": "no" if self.refuses else "yes"}
        if self.room > before:
            alarm(Event.SPACE_LOW, **about)
        elif self.room < before:
            emit(Event.SPACE_BACK, **about)
        return self.refuses
