"""Whatever comes in by one receiver, an ordinary study at another one is delivered as if it were alone."""

import statistics
import struct
import time
from pathlib import Path

import pytest
from pydicom.uid import generate_uid
from support.hostile.hostile_files import UNDEFINED, element, hostile, image, numeric, part10
from support.sites.line_site import RECEIVER, all_settled, arrive, instance, rounds, settings_for, states, working
from support.sites.receiving import ROOT

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


def times_beside(folder: Path, files: dict[str, Path], seconds: float) -> str:
    """Return how long an ordinary study takes alone and beside each of these files; twice as long is too long.

    Where it seems to, other programs may have been at work: it is measured twice more, alone and beside, and the
    median of the three ratios counts.
    """
    with working(settings_for(folder, destinations=WAYS, receivers=RECEIVERS, workers=2)) as (site, worker):
        seconds_to_deliver(site, worker, folder / "first", 60)  # what is imported once
        usual = seconds_to_deliver(site, worker, folder / "alone", 60)
        table = [f"{usual:.1f} s  alone"]
        for number, (name, file) in enumerate(files.items()):
            pairs = [(usual, _beside(site, worker, file, folder / f"beside-{number}"))]
            while pairs[0][1] >= 2 * usual and len(pairs) < 3:
                rounds(worker, until=all_settled(site), seconds=seconds)
                again = folder / f"{number}-{len(pairs)}"
                alone = seconds_to_deliver(site, worker, again.with_suffix(".alone"), 60)
                pairs.append((alone, _beside(site, worker, file, again.with_suffix(".beside"))))
            table += [f"{beside:.1f} s  beside {name} ({alone:.1f} s alone)" for alone, beside in pairs]
            assert statistics.median(beside / alone for alone, beside in pairs) < 2, table
        rounds(worker, until=all_settled(site), seconds=seconds)
        assert states(site, "deliveries").keys() == {"delivered"}
        return "\n".join(table)


def _beside(site: Site, worker: Worker, file: Path, folder: Path) -> float:
    arrive(site.spool, file, age=0)
    return seconds_to_deliver(site, worker, folder, 60)


TABLE = "table: an ordinary study at another receiver is delivered after"


def test_an_ordinary_study_takes_no_longer_beside_whatever_is_hostile(tmp_path, record_property):
    record_property(TABLE, times_beside(tmp_path, hostile(tmp_path / "hostile"), 120))


def huge(folder: Path) -> dict[str, Path]:
    """Write objects that are no attack, only large."""
    folder.mkdir()
    item = struct.pack("<HHI", 0xFFFE, 0xE000, UNDEFINED)
    end = struct.pack("<HHI", 0xFFFE, 0xE00D, 0)
    text = element(0x00080104, b"LO", b"meaning ")
    frames = (item + text * 300 + end) * 40_000
    groups = element(0x52009230, b"SQ", frames + struct.pack("<HHI", 0xFFFE, 0xE0DD, 0), length=UNDEFINED)
    sides = {"rows": numeric(b"US", struct.pack("<H", 16384)), "columns": numeric(b"US", struct.pack("<H", 32768))}
    pixels = element(0x7FE00010, b"OB", bytes(1 << 29))
    contents = {
        "a native image of 512 MiB": image(f"{ROOT}.77.0", **sides, pixels=pixels),
        "a header of 180 MiB": image(f"{ROOT}.77.1", before_pixels=groups),
        "a document of 300 MiB": image(f"{ROOT}.77.2", before_pixels=element(0x00420011, b"OB", bytes(300 << 20))),
    }
    made = {}
    for number, (name, content) in enumerate(contents.items()):
        made[name] = folder / f"{number}"
        made[name].write_bytes(part10(content, f"{ROOT}.77.{number}"))
    return made


@pytest.mark.long
def test_an_ordinary_study_takes_no_longer_beside_what_is_huge(tmp_path, record_property):
    record_property(TABLE, times_beside(tmp_path, huge(tmp_path / "huge"), 900))


def test_an_object_that_takes_too_much_of_the_processor_is_set_aside_alone_with_a_code(tmp_path, monkeypatch):
    monkeypatch.setattr(limits, "SECONDS", 1.0)
    monkeypatch.setattr(limits, "SECONDS_A_MEBIBYTE", 0.0)
    monkeypatch.setattr(limits, "TIMES_ON_THE_CLOCK", 100)  # as many seconds as ever: the machine may be busy
    study = generate_uid()
    usual, endless = (instance(tmp_path, name, StudyInstanceUID=study) for name in ("usual", "endless"))
    item = (
        b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + b"\xe1\x7f\x10\x10LO\0\0" * 3_000_000 + b"\xfe\xff\x0d\xe0\0\0\0\0"
    )
    with endless.open("ab") as file:
        file.write(b"\xe1\x7f\x11\x10SQ\0\0\xff\xff\xff\xff" + item + b"\xfe\xff\xdd\xe0\0\0\0\0")
    with working(settings_for(tmp_path)) as (site, walker):
        arrive(site.spool, usual, endless)
        rounds(walker, until=all_settled(site), seconds=240)
        assert states(site, "instances") == {"passed": 1, "quarantined": 1}

        (aside,) = listed(site.ledger)["quarantined"]
        assert aside["code"] == "over-limit"
        assert "needed more than 1 s of the processor's time, twice" in aside["reason"]
