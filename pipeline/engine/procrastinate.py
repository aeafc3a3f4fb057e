"""Notices between the nodes of a cluster, as jobs of procrastinate in the ledger's own database.

A job belongs to a lane and a node. It is written in the transaction that it tells of, its body wakes the node's
loop, and it is deleted. No job has a lock, is scheduled for later or is tried again, so that none can hold up
another: procrastinate 3.10 leaves those of a dead worker `doing` for ever (its issue 1518), and scheduled ones
block ready ones (1599). They have a schema of their own, so that they can be dropped and made again at any time.
"""

import asyncio
import hashlib
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from sqlalchemy import Connection, text

from pipeline.errors import Configuration
from pipeline.events import Event, emit

SCHEMA = "procrastinate"
SHORTEST_PAUSE, LONGEST_PAUSE = 1.0, 30.0  # Seconds until the database is tried again.
_TICK = "tick"  # Queue and lock of the job that one node does every two seconds.
_EVERY_TWO_SECONDS = "* * * * * */2"
_OURS = "storestow: "  # The schema's comment begins so, and goes on with the release and its hash.
_CALLS = "SELECT obj_description(to_regnamespace('procrastinate'), 'pg_namespace')"
# Its functions name its tables without the schema, and the ledger's sessions call them as triggers.
_BIND_FUNCTIONS = """
DO $$ DECLARE found regprocedure; BEGIN
    FOR found IN SELECT oid FROM pg_proc WHERE pronamespace = 'procrastinate'::regnamespace LOOP
        EXECUTE format('ALTER FUNCTION %s SET search_path = procrastinate', found);
    END LOOP;
END $$
"""
# A job that waits already is locked until our commit, so that nobody takes it before there is something to see: it
# is then announced again. A channel has 63 bytes at most, so a queue has the hash of a node's name.
_RING = text("""
WITH rung AS (
    INSERT INTO procrastinate.procrastinate_jobs (queue_name, task_name, queueing_lock, args)
    SELECT md5(name), 'wake', :lane || '@' || name, jsonb_build_object('lane', CAST(:lane AS text))
    FROM node WHERE lost_at IS NULL AND name <> :own
    ON CONFLICT (queueing_lock) WHERE status = 'todo' DO UPDATE SET args = excluded.args
    RETURNING id, queue_name
)
SELECT pg_notify('procrastinate_queue_v1#' || queue_name,
    json_build_object('type', 'job_inserted', 'job_id', id)::text) FROM rung
""")
# What died with a worker, and what was for a node that is gone.
_CLEAR = """
DELETE FROM procrastinate_jobs AS job USING procrastinate_events AS event
WHERE event.job_id = job.id
    AND event.at < now() - CASE WHEN job.status = 'todo' THEN interval '1 hour' ELSE interval '2 minutes' END
"""


class Procrastinate:
    """Carry notices to the other nodes by jobs; `own` is the node of a worker, which needs none of its own.

    `arguments` returns those of psycopg for a connection to the ledger's database, the password among them.
    """

    def __init__(self, arguments: Callable[[], dict[str, Any]], own: str = "") -> None:
        self._arguments = arguments
        self._own = own

    def install(self, change: Connection, *, may_replace: bool) -> None:
        """Make the schema of the release that is installed here; raises Configuration if there is another one."""
        release = package().__version__
        schema = import_module("procrastinate.schema").SchemaManager.get_schema()
        digest = hashlib.sha256(schema.encode()).hexdigest()
        found = change.exec_driver_sql(_CALLS).scalar_one()
        if found is not None and found.startswith(_OURS) and found.endswith(digest):
            return
        exists = bool(change.exec_driver_sql("SELECT to_regnamespace('procrastinate') IS NOT NULL").scalar_one())
        if exists and not (found or "").startswith(_OURS):
            raise Configuration(
                f"the ledger's database has a schema {SCHEMA} that storestow has not made: give the ledger a "
                "database of its own (docs/scale.md)"
            )
        if exists and not may_replace:
            raise Configuration(
                f"the ledger's database has the tables of another release of procrastinate than {release}: stop "
                "every worker and every `storestow serve` of all nodes, then run `storestow migrate`"
            )
        for statement in (
            f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE",
            f"CREATE SCHEMA {SCHEMA}",
            f"SET LOCAL search_path TO {SCHEMA}",
            schema,
            _BIND_FUNCTIONS,
            "SET LOCAL search_path TO DEFAULT",
            f"COMMENT ON SCHEMA {SCHEMA} IS '{_OURS}procrastinate {release}, schema {digest}'",
        ):
            # The driver itself: SQLAlchemy would take a percent sign for a parameter.
            change.connection.driver_connection.execute(statement)  # type: ignore[union-attr]

    def require(self, look: Connection) -> None:
        """Raise Configuration unless there is the schema: whoever rings needs it, but not the package."""
        if not (look.exec_driver_sql(_CALLS).scalar_one() or "").startswith(_OURS):
            raise Configuration(
                "the ledger's database has no tables for notices between nodes; start a worker of this release "
                "first: storestow up, or storestow work"
            )

    def ring(self, change: Connection, lane: str) -> None:
        """Write a job for each node but the own one; nothing if one for this lane waits there already."""
        change.execute(_RING, {"lane": lane, "own": self._own})

    @contextmanager
    def listening(self, wake: Callable[[str], None], tick: Callable[[], None]) -> Iterator[None]:
        """Run procrastinate's worker in a thread with a loop of its own, and again whenever it has ended."""
        listener = _NoticesThread(self._arguments, self._own, wake, tick)
        thread = threading.Thread(target=listener.run, name="notices", daemon=True)
        thread.start()
        try:
            yield
        finally:
            listener.stop()
            thread.join(5)


def package() -> Any:
    """Return procrastinate; raises Configuration if it is not installed. Only workers load it, not commands."""
    try:
        return import_module("procrastinate")
    except ImportError as missing:
        raise Configuration(
            "[cluster] needs a package that is not installed: pip install 'storestow[cluster]'"
        ) from missing


class _NoticesThread:
    """Listen in one thread until `stop`."""

    def __init__(
        self,
        arguments: Callable[[], dict[str, Any]],
        node: str,
        wake: Callable[[str], None],
        tick: Callable[[], None],
    ) -> None:
        self._arguments, self._node, self._wake, self._tick = arguments, node, wake, tick
        self._stopping = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listening: asyncio.Task[None] | None = None
        self._is_lost = False
        self._pause = SHORTEST_PAUSE
        for name in ("procrastinate", "psycopg.pool"):  # They would tell of an outage at each attempt.
            logging.getLogger(name).setLevel(logging.CRITICAL)

    def run(self) -> None:
        """Listen; it ends, with an error or without, when the database cannot be used."""
        while not self._stopping.is_set():
            reason = "procrastinate's worker has ended"
            try:
                asyncio.run(self._listen())
            except asyncio.CancelledError:
                continue
            except Exception as error:  # noqa: BLE001  # whatever it is, the loop looks every few seconds without it
                reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
            if not self._is_lost and not self._stopping.is_set():
                self._is_lost = True
                emit(Event.NOTICES_LOST, logging.WARNING, node=self._node, reason=reason)
            self._stopping.wait(self._pause)
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def stop(self) -> None:
        """End the thread soon."""
        self._stopping.set()
        loop, listening = self._loop, self._listening
        if loop is not None and listening is not None:
            with suppress(RuntimeError):  # The loop has just been closed.
                loop.call_soon_threadsafe(listening.cancel)

    async def _listen(self) -> None:
        self._loop, self._listening = asyncio.get_running_loop(), asyncio.current_task()
        arguments = self._arguments()
        # A notice that a crash of the server takes along costs time only, so its rows need no flush.
        arguments["options"] += f" -c search_path={SCHEMA} -c synchronous_commit=off"
        arguments["application_name"] = "storestow notices"
        procrastinate = package()
        connector = procrastinate.PsycopgConnector(
            conninfo="", kwargs=arguments, min_size=1, max_size=3, timeout=10
        )
        app = procrastinate.App(connector=connector, periodic_defaults={"max_delay": 10})
        app.task(name="wake", queue=self._queue)(self._hear)
        ticking = app.task(name=_TICK, queue=_TICK, queueing_lock=_TICK, pass_context=True)(self._take_tick)
        app.periodic(cron=_EVERY_TWO_SECONDS)(ticking)
        async with app.open_async():
            self._wake("")  # What was told meanwhile was not heard.
            await app.run_worker_async(
                queues=[self._queue, _TICK],
                name=self._node,
                concurrency=2,  # A tick that waits for its turn to write must not hold up a notice.
                install_signal_handlers=False,
                delete_jobs="always",
            )

    @property
    def _queue(self) -> str:
        return hashlib.md5(self._node.encode(), usedforsecurity=False).hexdigest()

    async def _hear(self, lane: str) -> None:
        self._is_heard()
        self._wake(lane)

    async def _take_tick(self, context: Any, timestamp: int) -> None:
        self._is_heard()
        await asyncio.to_thread(self._tick)
        if timestamp % 60 == 0:
            await context.app.job_manager.prune_stalled_workers(60)
            await context.app.connector.execute_query_async(_CLEAR)

    def _is_heard(self) -> None:
        self._pause = SHORTEST_PAUSE
        if self._is_lost:
            self._is_lost = False
            emit(Event.NOTICES_BACK, node=self._node)
