"""What a delivery holds in memory: a few blocks a connection, however many and large its instances are."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.studies.small_studies import STUDY, make_item

SENDER = """
import hashlib, json, resource, sys
from pathlib import Path
import psutil
from support.studies.small_studies import consign
from pipeline.destinations import from_table
from pipeline.model import InstanceKey, Item

url, folder, study, size = sys.argv[1:]

def item(path):
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    key = InstanceKey(study, study + ".1", path.stem)
    return Item(key, path, sha256, int(size), "1", "1", "CT1", "STORESTOW", "Here")

items = [item(path) for path in sorted(Path(folder).iterdir())]
me, at_start, peak = psutil.Process(), psutil.Process().memory_info().rss, 0
destination = from_table({"name": "a", "kind": "stow", "url": url})
verified = 0
for receipt in destination.deliver(consign(items)):
    verified += receipt.verified
    peak = max(peak, me.memory_info().rss)
usage = resource.getrusage(resource.RUSAGE_SELF)
cpu = usage.ru_utime + usage.ru_stime
print(json.dumps({"verified": verified, "start": at_start, "peak": peak, "cpu": cpu}))
"""
SIZE = 525_000


def make_large_study(folder: Path, count: int) -> None:
    """Write instances of SIZE bytes that take no room on the disk: everything after the header is a hole."""
    template = make_item(folder.parent / "template", 10_000, padding=SIZE)
    header = template.path.read_bytes()[: template.size - SIZE]
    old = template.key.sop_instance_uid.encode()
    folder.mkdir()
    for number in range(10_001, 10_001 + count):
        uid = f"{STUDY}.1.{number}"
        with (folder / f"{uid}.dcm").open("wb") as file:
            file.write(header.replace(old, uid.encode()))
            file.truncate(template.size)


@pytest.mark.parametrize("count", [200, pytest.param(2000, marks=pytest.mark.long)])
def test_memory_does_not_grow_with_the_study(tmp_path, count):
    make_large_study(tmp_path / "study", count)
    size = next((tmp_path / "study").iterdir()).stat().st_size
    with FakeDcm4chee(keep=False) as archive:
        started = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-c", SENDER, archive.url, str(tmp_path / "study"), STUDY, str(size)],
            capture_output=True,
            text=True,
            timeout=240,
            env={"PYTHONPATH": str(Path(__file__).resolve().parents[1])},
            check=False,
        )
        seconds = time.monotonic() - started
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    print(f"{count} instances, {seconds:.1f} s, {said}")
    assert said["verified"] == count
    assert len(archive.stored) == count
    assert said["peak"] - said["start"] < 12_000_000  # bytes
