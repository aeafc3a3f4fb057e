"""Notices between the nodes of a cluster: how many wait, and databases in which they are lost or stay in hand."""

import contextlib
from collections.abc import Iterator
from typing import Any

import psycopg

from pipeline.ledger import Ledger

_NONE_IS_WRITTEN = "BEFORE INSERT ON procrastinate.procrastinate_jobs", "RETURN NULL;"
_ALL_STAY_IN_HAND = "BEFORE DELETE ON procrastinate.procrastinate_jobs", "PERFORM pg_sleep(20); RETURN OLD;"


class Notices:
    """The jobs of notices in the database at `address`."""

    def __init__(self, address: str) -> None:
        self._address = address

    def execute(self, statement: str) -> list[tuple[Any, ...]]:
        with psycopg.connect(self._address, autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def are_there(self) -> bool:
        """Tell whether a worker has made their tables."""
        return bool(self.execute("SELECT 1 FROM pg_tables WHERE tablename = 'procrastinate_jobs'"))

    def of(self, node: str, status: str = "todo") -> list[str]:
        """Return the lanes of the notices to a node."""
        found = self.execute(
            "SELECT args ->> 'lane' FROM procrastinate.procrastinate_jobs"
            f" WHERE queue_name = md5('{node}') AND status = '{status}'"
        )
        return [lane for (lane,) in found]

    def write(self, node: str, lane: str, count: int = 1) -> None:
        """Write notices that nothing has happened for."""
        self.execute(
            "INSERT INTO procrastinate.procrastinate_jobs (queue_name, task_name, args) SELECT "
            f"md5('{node}'), 'wake', jsonb_build_object('lane', '{lane}') FROM generate_series(1, {count})"
        )

    def lost(self) -> contextlib.AbstractContextManager[None]:
        """Have none be written, the periodic ones too."""
        return self._with_trigger(*_NONE_IS_WRITTEN)

    def kept_in_hand(self) -> contextlib.AbstractContextManager[None]:
        """Have a worker that has heard one be busy with it."""
        return self._with_trigger(*_ALL_STAY_IN_HAND)

    @contextlib.contextmanager
    def _with_trigger(self, when: str, what: str) -> Iterator[None]:
        function = f"CREATE FUNCTION odd() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {what} END $$"
        self.execute(function)
        self.execute(f"CREATE TRIGGER odd {when} FOR EACH ROW EXECUTE FUNCTION public.odd()")
        try:
            yield
        finally:
            self.execute("DROP FUNCTION public.odd CASCADE")


def rung(ledger: Ledger, lane: str) -> None:
    """Ring once, as who has changed something does."""
    with ledger.transaction() as change:
        ledger.engine.ring(change, lane)
