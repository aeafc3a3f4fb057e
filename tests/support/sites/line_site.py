"""A site without receivers: files are put where storescp would, and the worker's rounds are run by hand."""

import contextlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pydicom
from pydicom.data import get_testdata_file
from pydicom.uid import generate_uid
from support.sites import ledger_place

from pipeline.ledger import reports
from pipeline.line.admit import parse_arrival_name
from pipeline.site.open_site import opened
from pipeline.site.settings import Settings
from pipeline.site.site import Site
from pipeline.spool.spool import Spool, admit
from pipeline.worker.worker import Worker

RECEIVER = {"name": "modalities", "ae_title": "STORESTOW", "port": 11112, "quiet_seconds": 1, "to": ["nowhere"]}
NULL = {"name": "nowhere", "kind": "null"}


def settings_for(folder: Path, *, destinations=(NULL,), receivers=None, routes=(), **site) -> Settings:
    names = [destination["name"] for destination in destinations]
    table = {
        "folder": folder,
        "site": {"spool": str(folder / "spool"), "workers": 1, "ledger": ledger_place.url(), **site},
        "receiver": receivers if receivers is not None else [{**RECEIVER, "to": names}],
        "destination": list(destinations),
        "route": list(routes),
    }
    return Settings.model_validate(table)


def node_settings(folder: Path, node: str, *, store: Path | None = None, **more) -> Settings:
    """Return the settings of a node with a store, its own by default; the ledger must be on a server."""
    store = store or folder / "store"
    store.mkdir(parents=True, exist_ok=True)
    table = settings_for(folder, **more).model_dump(exclude_unset=True, serialize_as_any=True)
    return Settings.model_validate({**table, "cluster": {"store": str(store), "node": node}})


def site_file(folder: Path, destination: str = "nowhere") -> Path:
    """Write the shortest site.toml there is, with a destination that keeps nothing; return its path."""
    file = folder / "site.toml"
    file.write_text(f"""
[site]
spool = "{folder}/spool"
[[receiver]]
name = "modalities"
ae_title = "STORESTOW"
port = 11112
to = ["{destination}"]
[[destination]]
name = "{destination}"
kind = "null"
""")
    return file


def instance(folder: Path, name: str = "a", *, source: str = "CT_small.dcm", **attributes) -> Path:
    """A real instance with new UIDs, and what the situation needs besides."""
    dataset = pydicom.dcmread(get_testdata_file(source))
    dataset.SOPInstanceUID = generate_uid()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    path = folder / name
    dataset.save_as(path, enforce_file_format=True)
    return path


def arrive(
    spool: Spool, *files: Path, receiver: str = "modalities", age: float = 60.0, peer: str | None = None
) -> str:
    """Admit copies of these files, old enough to be due, as the hook would; return the arrival's name.

    With a `peer` they came in association mode, from that address.
    """
    folder = folder_of(spool, *files, receiver=receiver, age=age)
    if peer is not None:
        envelope = {"calling_ae_title": "PACS", "called_ae_title": "CDRECORD", "peer": peer}
        (folder / ".envelope.json").write_text(json.dumps(envelope))
    name = admit(folder.parent, folder)
    assert name is not None
    assert parse_arrival_name(name)[1] == receiver
    return name


def folder_of(spool: Spool, *files: Path, receiver: str = "modalities", age: float = 60.0, name: str = "") -> Path:
    """Leave copies of these files as storescp would, in a folder nobody has announced yet."""
    folder = spool.prepare_receiver(receiver) / (name or f"S_{time.time_ns()}")
    folder.mkdir()
    for number, file in enumerate(files):
        target = folder / f"CT.X.{number:05d}"
        shutil.copyfile(file, target)
        moment = time.time() - age + number / 1000
        os.utime(target, (moment, moment))
    return folder


@contextlib.contextmanager
def working(settings: Settings) -> Iterator[tuple[Site, Worker]]:
    with opened(settings) as site:
        yield site, Worker(site)


def rounds(worker: Worker, *, until, seconds: float = 30.0) -> None:
    """Run rounds until the condition holds and nothing is in hand; as in `Worker.run`, a job that ends wakes us.

    A round asks the ledger some thirty questions: every 20 ms, rounds took more of the processor than the jobs.
    """
    deadline = time.monotonic() + seconds
    while not (until() and worker.is_idle()):
        assert time.monotonic() < deadline, "waited in vain"
        worker._wake.clear()
        worker.round()
        worker._wake.wait(0.1)


def states(site: Site, table: str) -> dict[str, int]:
    with site.ledger.reading() as look:
        return {state: count for state, count in reports.counts(look)[table].items() if count}


def all_settled(site: Site):
    def settled() -> bool:
        counts = states(site, "arrivals")
        return (
            bool(counts)
            and not counts.keys() & {"admitted", "processing"}
            and not list(site.spool.arrivals.iterdir())
        )

    return settled
