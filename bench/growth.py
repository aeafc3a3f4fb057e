"""How much a large ledger costs: start of the worker, `status`, and an idle worker, against an empty ledger.

    .venv/bin/python bench/growth.py [INSTANCES] [ROUNDS]

The instances are delivered and settled; the originals of all but the last day are deleted. Each figure is the
median of the rounds, the large ledger and the empty one in turn; the goal is a ratio of at most 1.2 each.
"""

import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

IDLE_SECONDS = 20.0
OF_AN_ARRIVAL = 100  # instances
KEPT = 20  # arrivals whose originals are here still

SITE = """
[site]
spool = "{spool}"
workers = 1
[[receiver]]
name = "modalities"
ae_title = "STORESTOW"
port = 1{port}
to = ["nowhere"]
[[destination]]
name = "nowhere"
kind = "null"
"""


def main() -> None:
    """Measure and print."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 3
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        sites = {name: new_site(Path(folder) / name, number) for number, name in enumerate(("empty", "large"))}
        for site in sites.values():
            started(site, 0)
        began = time.monotonic()
        fill(sites["large"].parent / "spool", count)
        size = (sites["large"].parent / "spool" / "ledger.sqlite3").stat().st_size
        print(f"{count:,} instances, {size / 1e6:,.0f} MB, entered in {time.monotonic() - began:.0f} s")
        found: dict[str, dict[str, list[float]]] = {}
        for _ in range(rounds):
            for name, site in sites.items():
                start, idle = started(site, IDLE_SECONDS)
                for what, value in (
                    ("start, s", start),
                    ("idle, CPU s in 20 s", idle),
                    ("status, s", status(site)),
                ):
                    found.setdefault(what, {}).setdefault(name, []).append(value)
        for what, by_site in found.items():
            empty, large = (statistics.median(by_site[name]) for name in ("empty", "large"))
            ratio = statistics.median(b / a for a, b in zip(by_site["empty"], by_site["large"], strict=True))
            print(f"{what:22} empty {empty:7.2f}  large {large:7.2f}  ratio {ratio:5.2f}")
        print(f"load {os.getloadavg()[0]:.1f}")


def new_site(folder: Path, number: int) -> Path:
    """Write the configuration of a site; return its file."""
    (folder / "spool").mkdir(parents=True)
    path = folder / "site.toml"
    path.write_text(SITE.format(spool=folder / "spool", port=1800 + number))
    return path


def _argv(site: Path, *words: str) -> list[str]:
    return [sys.executable, "-I", "-m", "pipeline", "--site", str(site), *words]


def started(site: Path, idle_seconds: float) -> tuple[float, float]:
    """Start a worker and stop it again; return seconds until it works, and its processor seconds while idle."""
    began = time.monotonic()
    with subprocess.Popen(_argv(site, "work"), stderr=subprocess.PIPE, text=True) as worker:
        assert worker.stderr is not None
        for line in worker.stderr:
            if "worker-started" in line:
                break
        took = time.monotonic() - began
        time.sleep(3.0 if idle_seconds else 0.0)  # what runs once after the start
        before = _processor_seconds(worker.pid)
        time.sleep(idle_seconds)
        idle = _processor_seconds(worker.pid) - before
        worker.send_signal(signal.SIGTERM)
        worker.stderr.read()
    return took, idle


def _processor_seconds(pid: int) -> float:
    # clock_getcpuclockid(3) of Linux, in nanoseconds; /proc counts hundredths, and a worker that waits uses five.
    return time.clock_gettime((~pid << 3) | 2)


def status(site: Path) -> float:
    """Return the seconds that `status` takes."""
    began = time.monotonic()
    answer = subprocess.run(_argv(site, "status", "--json"), capture_output=True, check=True).stdout
    json.loads(answer)
    return time.monotonic() - began


def fill(spool: Path, count: int) -> None:
    """Enter `count` instances into the ledger of a site whose worker has been started once."""
    now = time.time()
    arrivals = max(1, count // OF_AN_ARRIVAL)
    with closing(sqlite3.connect(spool / "ledger.sqlite3")) as ledger:
        ledger.execute("PRAGMA synchronous = OFF")
        for table, rows in _rows(arrivals, now, spool):
            columns = list(rows[0])
            words = f"INSERT INTO {table} ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            ledger.executemany(words, [tuple(row[column] for column in columns) for row in rows])
        ledger.commit()
        ledger.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _rows(arrivals: int, now: float, spool: Path) -> Iterator[tuple[str, list[dict[str, object]]]]:
    for number in range(1, arrivals + 1):
        is_here = number > arrivals - KEPT
        at = now - (3600 if is_here else 40 * 86400) + number * 1e-3
        name, study = f"{int(at * 1e9)}-modalities-{number}", f"1.2.826.0.1.{number}"
        if is_here:
            (spool / "settled" / name).mkdir(parents=True)
        times = {
            "admitted_at": at,
            "newest_file_at": at,
            "settled_at": at + 20,
            "gone_at": None if is_here else now,
        }
        about = {"name": name, "receiver": "modalities", "state": "settled", "hidden_files": 0, "empty_files": 0}
        yield "arrival", [{**about, **times}]
        delivery = {
            "id": number, "destination": "nowhere", "receiver": "modalities", "study_instance_uid": study,
            "state": "delivered", "held": 0, "guard_released": 0, "created_at": at, "due_at": at, "attempts": 1,
            "finished_at": at + 10, "requested": 0, "growing": 0,
        }  # fmt: skip
        yield "delivery", [delivery]
        ids = range((number - 1) * OF_AN_ARRIVAL + 1, number * OF_AN_ARRIVAL + 1)
        digest = f"{number:064x}"
        yield "instance", [
            {
                "id": one, "arrival": name, "file": f"CT.{one}", "state": "passed", "scope": "line",
                "study_instance_uid": study, "series_instance_uid": f"{study}.1",
                "sop_instance_uid": f"{study}.1.{one}",
                "sop_class_uid": "1.2.840.10008.5.1.4.1.1.2", "modality": "CT", "accession_number": f"A{number}",
                "calling_ae_title": "CT1", "called_ae_title": "STORESTOW", "size": 526_000,
                "received_sha256": digest, "data_set_sha256": digest,
                "transfer_syntax_received": "1.2.840.10008.1.2.1", "consigned": 1,
            }
            for one in ids
        ]  # fmt: skip
        yield "receipt", [
            {
                "delivery": number, "instance": one, "state": "stored", "code": "0x0000", "message": "",
                "verified": 1, "attempted": 1, "path": f"arrivals/{name}/CT.{one}", "sha256": digest,
                "size": 526_000, "at": at + 9,
                "transfer_syntax_uid": "1.2.840.10008.1.2.1", "encoding": "none",
            }
            for one in ids
        ]  # fmt: skip


if __name__ == "__main__":
    main()
