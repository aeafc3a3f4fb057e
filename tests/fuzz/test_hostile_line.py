"""Everything an attacker can put into a file, through the real line once: bounded, and a good instance goes on."""

import contextlib
import time
from pathlib import Path

import psutil
import pytest
from support.hostile.hostile_files import hostile
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.dicom import reading
from pipeline.operate.trace import trace

ENCODING = {"name": "nowhere", "kind": "null", "encode": "j2k"}
HOSTILE, MALFORMED = 16, 4  # of the hostile ones; the others are odd but whole, and pass as they are


def through_the_line(folder: Path, *, seconds: float) -> tuple[float, int, list[dict[str, object]]]:
    """Return the processor's seconds and the most memory (MiB) it took with its children, and every instance."""
    good, bad = instance(folder, "good"), hostile(folder / "hostile")
    peak, of_earlier_tests = 0, psutil.Process().memory_info().rss >> 20
    spent: dict[int, float] = {}  # by process

    def settled() -> bool:
        nonlocal peak
        ours = [psutil.Process(), *psutil.Process().children(recursive=True)]
        held = 0
        for one in ours:
            with contextlib.suppress(psutil.NoSuchProcess):  # it has ended since
                held += one.memory_info().rss
                times = one.cpu_times()
                spent[one.pid] = times.user + times.system
        peak = max(peak, (held >> 20) - of_earlier_tests)
        return all_settled(site)()

    with working(settings_for(folder, destinations=(ENCODING,))) as (site, worker):
        began = time.process_time()
        name = arrive(site.spool, good, *bad.values())
        rounds(worker, until=settled, seconds=seconds)
        taken = sum(spent.values()) - began
        assert states(site, "deliveries") == {"delivered": 2}  # the good study and the hostile one
        assert not list(site.spool.run.glob("tmp*"))  # nothing inflated is left behind
        return taken, peak, [one for study in trace(name, site.ledger)["studies"] for one in study["instances"]]


def judge(instances: list[dict[str, object]]) -> None:
    quarantined = [one for one in instances if one["state"] == "quarantined"]
    assert len(instances) == 1 + HOSTILE
    assert len(quarantined) == MALFORMED
    assert all(one["reason"] for one in quarantined)
    assert {one["state"] for one in instances} == {"quarantined", "passed", "encoded"}


def test_hostile_files_are_quarantined_one_by_one_or_pass_as_they_are(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_INFLATED", 32 << 20)  # the same, without waiting for the disk
    taken, peak, instances = through_the_line(tmp_path, seconds=240)  # on a busy machine
    judge(instances)
    assert peak < 1375
    assert taken < 60


@pytest.mark.long
def test_with_the_real_bounds_it_takes_a_minute_or_two(tmp_path, record_property):
    taken, peak, instances = through_the_line(tmp_path, seconds=290)
    judge(instances)
    record_property("table: hostile files through the line", f"{taken:.0f} s, {peak} MiB at most")
    assert peak < 2000
