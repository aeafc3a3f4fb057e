"""Why the worker of a spool refused to start: noted in the spool, so that receivers, which go on, say it too."""

import contextlib
import time
import tomllib
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import Configuration, StorestowError
from pipeline.events import Event, alarm
from pipeline.site.settings import site_file
from pipeline.spool.durable import unlink
from pipeline.spool.spool import Spool

_FILE_NAME = "worker-refuses"
_LONGEST = 2000  # characters; the log cuts earlier
AGAIN_SECONDS = 3600.0


class AnotherWorks(Configuration):
    """Say that another worker holds the spool."""


@contextlib.contextmanager
def noted_for_receivers(site: Path | None) -> Iterator[None]:
    """Note in the spool of `site` any error that keeps its worker from starting; the error goes on."""
    try:
        yield
    except AnotherWorks:
        raise
    except StorestowError as error:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError, Configuration):
            _file(_spool_of(site)).write_text(str(error)[:_LONGEST], encoding="utf-8")
        raise


def reason(spool: Spool) -> str | None:
    """Return why the last start of the worker was refused, None if it was not."""
    try:
        return _file(spool).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def forget(spool: Spool) -> None:
    """Forget the note: the worker has started."""
    unlink(_file(spool), missing_ok=True)


class RefusalWatch:
    """Watch for one receiver whether its worker refuses to start, and log it: at once, then every hour."""

    def __init__(self, spool: Spool, receiver: str) -> None:
        self._spool = spool
        self._receiver = receiver
        self._said: str | None = None
        self._said_at = 0.0

    def look(self, now: float | None = None) -> None:
        """Look now; `now` is in seconds of the monotonic clock."""
        why, now = reason(self._spool), time.monotonic() if now is None else now
        if why and (why != self._said or now - self._said_at >= AGAIN_SECONDS):
            remedy = "what arrives is kept and not delivered; start the worker when that is mended"
            alarm(Event.WORKER_REFUSES, receiver=self._receiver, reason=why, remedy=remedy)
            self._said_at = now
        self._said = why


def _file(spool: Spool) -> Path:
    return spool.run / _FILE_NAME


def _spool_of(site: Path | None) -> Spool:
    """Return the spool a configuration names, also where the rest of it is wrong."""
    return Spool(Path(tomllib.loads(site_file(site).read_text(encoding="utf-8"))["site"]["spool"]))
