"""Free space in the spool: raise an alarm before it is full, refuse new objects before one is cut off.

Below `alarm_below` a person must look. Below `refuse_below` no new association is accepted; deliveries go on,
because they free space. Recovery needs a tenth more than the mark, so that reception does not flicker.
"""

import shutil
from collections.abc import Callable
from enum import IntEnum
from pathlib import Path

from pipeline.config.site_table import SiteTable
from pipeline.events import Event, alarm, emit

HYSTERESIS = 1.1


class DiskLevel(IntEnum):
    """How full the spool is, the worse the higher."""

    ENOUGH = 0
    LOW = 1
    NONE = 2


def judged(free: int, before: DiskLevel, *, alarm_below: int, refuse_below: int) -> DiskLevel:
    """Return the level for `free` bytes after the level `before`; a mark of 0 is never reached."""
    if free < refuse_below * (HYSTERESIS if before is DiskLevel.NONE else 1):
        return DiskLevel.NONE
    if free < alarm_below * (HYSTERESIS if before is not DiskLevel.ENOUGH else 1):
        return DiskLevel.LOW
    return DiskLevel.ENOUGH


def free_bytes(folder: Path) -> int:
    """Return how many bytes a user without privileges may still write to the file system of `folder`."""
    return shutil.disk_usage(folder).free


class SpaceWatch:
    """Watch the spool for one receiver, and log when the level changes."""

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
        """Say whether new objects are refused, as of the last look."""
        return self.room is DiskLevel.NONE

    @property
    def is_desperate(self) -> bool:
        """Say whether half of the reserve is gone too: then a running association must end."""
        return self.refuses and self.free < self._site.refuse_below / 2

    def look(self) -> bool:
        """Look now, and say whether new objects are refused."""
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
