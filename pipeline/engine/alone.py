"""One worker: it hears of its own spool by the file system, and nobody else needs a notice."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from sqlalchemy import Connection


class Alone:
    """Carry nothing: no process, thread or connection is made."""

    def install(self, change: Connection, *, may_replace: bool) -> None:
        """Do nothing."""

    def require(self, look: Connection) -> None:
        """Do nothing."""

    def ring(self, change: Connection, lane: str) -> None:
        """Do nothing: the only worker knows what it does, and looks every few seconds for what people do."""

    def listening(
        self, _wake: Callable[[str], None], _tick: Callable[[], None], /
    ) -> AbstractContextManager[None]:
        """Return a context in which nothing is heard."""
        return nullcontext()
