"""Days of studies through retention, in simulated time: rows as the line writes them, deleted as the worker does.

One study goes through the real line. Its rows are the pattern of all others: each has UIDs and times of its own.
"""

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from support.sites.line_site import all_settled, arrive, instance, rounds

from pipeline.ledger import FILE_NAME
from pipeline.line import settle
from pipeline.site.site import Site
from pipeline.worker import upkeep
from pipeline.worker.worker import Worker

DAY = 86400.0
TIMES = (
    "admitted_at",
    "newest_file_at",
    "settled_at",
    "created_at",
    "due_at",
    "first_attempt_at",
    "finished_at",
    "at",
)


@dataclass(frozen=True)
class EndOfDay:
    """How the ledger stands when a day is over; sizes are in bytes."""

    day: int
    instances: int
    ledger: int
    archive: int


class SimulatedDays:
    """A site into which `studies` of `instances_each` come every day, beginning at the moment `start`."""

    def __init__(self, site: Site, worker: Worker, folder: Path, *, studies: int, instances_each: int) -> None:
        self._site = site
        self._studies, self._each = studies, instances_each
        arrive(site.spool, instance(folder))
        rounds(worker, until=all_settled(site))
        self._file = site.spool.root / FILE_NAME
        with closing(sqlite3.connect(self._file)) as ledger:
            ledger.row_factory = sqlite3.Row
            self._pattern = {
                table: [dict(row) for row in ledger.execute(f'SELECT * FROM "{table}"')]
                for table in ("arrival", "instance", "delivery", "receipt", "study_patient")
            }
        self._start = float(self._pattern["arrival"][0]["admitted_at"])
        self._next = 1000

    def pass_day(self, day: int) -> EndOfDay:
        """Let the studies of the day come and settle, and delete what has passed its time at its end."""
        with closing(sqlite3.connect(self._file, timeout=60)) as ledger:
            for number in range(self._studies):
                self._enter(ledger, self._start + day * DAY + number * DAY / self._studies)
            ledger.commit()
        now = self._start + (day + 1) * DAY
        settle.expire(self._site, now)
        before, end = None, self._end(day)
        while before != end.instances:  # one call ends after some seconds, and the worker calls every few minutes
            upkeep.forget(self._site, now)
            before, end = end.instances, self._end(day)
        return end

    def _enter(self, ledger: sqlite3.Connection, moment: float) -> None:
        """Write the rows of one settled study that came at `moment`."""
        first = self._next
        self._next += self._each
        later = moment - self._start
        study, name = f"1.2.3.{first}", f"{int(moment * 1e9)}-modalities-{first}"
        [arrival], [one] = self._pattern["arrival"], self._pattern["instance"]
        self._insert(ledger, "arrival", [{**arrival, "name": name}], later)
        images = [
            {
                **one,
                "id": first + n,
                "arrival": name,
                "study_instance_uid": study,
                "sop_instance_uid": f"{study}.{n}",
            }
            for n in range(self._each)
        ]
        self._insert(ledger, "instance", images, later)
        for number, delivery in enumerate(self._pattern["delivery"]):
            key = first * len(self._pattern["delivery"]) + number
            self._insert(ledger, "delivery", [{**delivery, "id": key, "study_instance_uid": study}], later)
            [receipt] = [row for row in self._pattern["receipt"] if row["delivery"] == delivery["id"]]
            self._insert(
                ledger,
                "receipt",
                [{**receipt, "delivery": key, "instance": image["id"]} for image in images],
                later,
            )
        patients = [
            {**row, "study_instance_uid": study, "arrival": name} for row in self._pattern["study_patient"]
        ]
        self._insert(ledger, "study_patient", patients, later)

    @staticmethod
    def _insert(ledger: sqlite3.Connection, table: str, rows: list[dict[str, object]], later: float) -> None:
        """Put rows of the same columns into `table`, each of their times `later` seconds later."""
        times = [name for name in TIMES if name in rows[0]]
        for row in rows:
            row.update({name: row[name] + later for name in times if isinstance(row[name], float)})
        names = ", ".join(f'"{name}"' for name in rows[0])
        ledger.executemany(
            f'INSERT INTO "{table}" ({names}) VALUES ({", ".join("?" * len(rows[0]))})',
            [tuple(row.values()) for row in rows],
        )

    def _end(self, day: int) -> EndOfDay:
        with closing(sqlite3.connect(self._file)) as ledger:
            ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            (instances,) = ledger.execute("SELECT count(*) FROM instance").fetchone()
        archive = sum(file.stat().st_size for file in self._site.spool.accounts.glob("*"))
        return EndOfDay(day, instances, self._file.stat().st_size, archive)
