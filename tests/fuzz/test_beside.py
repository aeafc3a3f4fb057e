"""Whatever comes in by one receiver, an ordinary study at another one is delivered as if it were alone."""

import time
from pathlib import Path

from hostile_files import hostile
from line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working
from pydicom.uid import generate_uid

from pipeline.dicom import deflation
from pipeline.ledger import reports
from pipeline.line.quarantine import listed
from pipeline.model import DeliveryState
from pipeline.processes import limits
from pipeline.site.site import Site
from pipeline.worker.worker import Worker

QUIET = 2  # seconds
WAYS = [
    {"name": "nowhere", "kind": "null", "encode": "j2k"},
    {"name": "elsewhere", "kind": "null"},
]
RECEIVERS = [
    {**RECEIVER, "quiet_seconds": QUIET, "to": ["nowhere"]},
    {**RECEIVER, "name": "other", "ae_title": "OTHER", "port": 11113, "quiet_seconds": QUIET, "to": ["elsewhere"]},
]


def ordinary(folder: Path) -> tuple[str, list[Path]]:
    folder.mkdir()
    study = generate_uid()
    return study, [instance(folder, f"{number}", StudyInstanceUID=study) for number in range(10)]


def seconds_to_deliver(site: Site, worker: Worker, folder: Path, limit: float) -> float:
    """Return how long an ordinary study takes from its admission to its delivery."""
    study, files = ordinary(folder)
    began = time.monotonic()
    arrive(site.spool, *files, receiver="other", age=0)

    def is_delivered() -> bool:
        with site.ledger.reading() as look:
            return len(reports.deliveries_of(look, study, "elsewhere", [DeliveryState.DELIVERED])) == 1

    while not is_delivered():
        assert time.monotonic() - began < limit, "the ordinary study waits"
        worker.round()
        time.sleep(0.02)
    return time.monotonic() - began


def test_an_ordinary_study_takes_no_longer_beside_whatever_is_hostile(tmp_path, monkeypatch, record_property):
    monkeypatch.setattr(deflation, "MAX_INFLATED", 256 << 20)  # in this process; what reads them has the real one
    files = hostile(tmp_path / "hostile")
    with working(settings_for(tmp_path, destinations=WAYS, receivers=RECEIVERS, workers=2)) as (site, worker):
        seconds_to_deliver(site, worker, tmp_path / "first", 60)  # what is imported once
        usual = seconds_to_deliver(site, worker, tmp_path / "alone", 60)
        table = [f"{usual:.1f} s  alone"]
        for number, (name, file) in enumerate(files.items()):
            arrive(site.spool, file, age=0)
            beside = seconds_to_deliver(site, worker, tmp_path / f"beside-{number}", 60)
            table.append(f"{beside:.1f} s  beside {name}")
            assert beside < 2 * usual, name
        record_property("table: an ordinary study at another receiver is delivered after", "\n".join(table))
        rounds(worker, until=all_settled(site), seconds=120)
        assert states(site, "deliveries").keys() == {"delivered"}


def test_an_object_that_takes_too_much_of_the_processor_is_set_aside_alone_with_a_code(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 1.0)
    monkeypatch.setattr(limits, "SECONDS_A_MEBIBYTE", 0.0)
    study = generate_uid()
    usual, endless = (instance(tmp_path, name, StudyInstanceUID=study) for name in ("usual", "endless"))
    item = (
        b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\xe1\x7f\x10\x10LO\0\0" * 3_000_000 + b"\xfe\xff\x0d\xe0\0\0\0\0"
    )
    with endless.open("ab") as file:
        file.write(b"\xe1\x7f\x11\x10SQ\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0")
    with working(settings_for(tmp_path)) as (site, walker):
        arrive(site.spool, usual, endless)
        rounds(walker, until=all_settled(site), seconds=60)
        assert states(site, "instances") == {"passed": 1, "quarantined": 1}

        (aside,) = listed(site.ledger)["quarantined"]
        assert aside["code"] == "over-limit"
        assert "needed more than 1 s of the processor's time, twice" in aside["reason"]
