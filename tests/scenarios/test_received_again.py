"""The same instance again, encoded otherwise, while the first moves on or cannot be read: no conflict for ever."""

from dataclasses import dataclass

import pydicom
import pytest
from pydicom.uid import RLELossless
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working

from pipeline.dicom import same_content
from pipeline.dicom.same_content import are_same
from pipeline.errors import Transient
from pipeline.line import identify_arrival, quarantine, settle
from pipeline.line.admit import admit
from pipeline.line.line import Line
from pipeline.processes.process_pool import PoolProcessDied
from pipeline.site.site import Site
from pipeline.spool import spool as spool_module
from pipeline.spool.spool import Spool


@pytest.fixture
def pair(tmp_path):
    """One instance in two transfer syntaxes."""
    first, second = instance(tmp_path, "first"), tmp_path / "second"
    data_set = pydicom.dcmread(first)
    data_set.compress(RLELossless, generate_instance_uid=False)
    data_set.save_as(second, enforce_file_format=True)
    return first, second


@dataclass(frozen=True)
class Situation:
    site: Site
    first: str
    second: str


@pytest.fixture
def given(tmp_path, pair, monkeypatch):
    """A site whose first arrival has been delivered and not yet settled; the second is admitted."""
    with working(settings_for(tmp_path)) as (found, worker):
        first = arrive(found.spool, pair[0])
        with monkeypatch.context() as patch:
            patch.setattr(Line, "_ended_arrivals", lambda _: ())
            rounds(worker, until=lambda: states(found, "deliveries") == {"delivered": 1})
        second = arrive(found.spool, pair[1])
        admit(second, found)
        yield Situation(found, first, second)


def before(monkeypatch, owner, name: str, act) -> None:
    """Let `act` happen once, right before `name` is called."""
    real = getattr(owner, name)

    def wrapped(*arguments, **options):
        monkeypatch.setattr(owner, name, real)
        act()
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, wrapped)


def compared_as(monkeypatch, pool, answer) -> None:
    """Let every comparison end in `answer`; what is only read is read."""
    real = pool.each

    def each(function, tasks, *limits):
        if function is are_same:
            return [(task, answer) for task in tasks]
        return real(function, tasks, *limits)

    monkeypatch.setattr(pool, "each", each)


def test_what_settles_before_it_is_compared_is_looked_for_again(given, monkeypatch):
    before(monkeypatch, identify_arrival, "judge", lambda: settle.settle(given.first, given.site))
    identify_arrival.identify_arrival(given.second, given.site)
    assert states(given.site, "instances") == {"passed": 1, "duplicate": 1}


def test_what_settles_while_it_is_compared_is_compared_again(given, monkeypatch):
    before(monkeypatch, identify_arrival, "_are_same", lambda: settle.settle(given.first, given.site))
    identify_arrival.identify_arrival(given.second, given.site)
    assert states(given.site, "instances") == {"passed": 1, "duplicate": 1}


def test_what_cannot_be_compared_now_is_judged_later(given, monkeypatch):
    with monkeypatch.context() as patch:
        full = Transient("No space left on device")
        compared_as(patch, given.site.pool, full)
        with pytest.raises(Transient, match="No space left"):
            identify_arrival.identify_arrival(given.second, given.site)
    assert states(given.site, "instances") == {"passed": 1}, "nothing is decided"
    identify_arrival.identify_arrival(given.second, given.site)
    assert states(given.site, "instances") == {"passed": 1, "duplicate": 1}


def test_what_kills_whoever_compares_it_is_a_conflict_that_says_so(given, monkeypatch):
    died = PoolProcessDied("the process that had it in hand died twice: SIGSEGV")
    compared_as(monkeypatch, given.site.pool, died)
    identify_arrival.identify_arrival(given.second, given.site)
    (aside,) = quarantine.listed(given.site.ledger)["quarantined"]
    assert aside["state"] == "conflict"
    assert "cannot be compared: the process that had it in hand died twice" in aside["reason"]


def test_a_file_that_cannot_be_read_now_is_not_another_instance(pair, monkeypatch):
    before(monkeypatch, same_content, "data_set_of", pair[0].unlink)
    with pytest.raises(FileNotFoundError):
        same_content.are_same(pair)


@pytest.mark.parametrize("cut", [0, 100, 200, 1000])
def test_what_is_cut_cannot_be_told_to_be_the_same_or_another(pair, tmp_path, cut):
    part = tmp_path / "cut"
    part.write_bytes(pair[0].read_bytes()[:cut])
    with pytest.raises(same_content.Incomparable):
        same_content.are_same((part, pair[0]))


def test_a_file_that_is_released_while_it_is_looked_for_is_found(tmp_path, monkeypatch):
    spool = Spool(tmp_path)
    spool.prepare()
    (spool.settled / "arrival").mkdir()
    (spool.settled / "arrival" / "file").touch()
    real = spool_module.is_file

    def is_file(path):
        answer = real(path)
        if path.parent == spool.arrivals / "arrival" and not answer:
            (spool.settled / "arrival").rename(spool.arrivals / "arrival")
        return answer

    monkeypatch.setattr(spool_module, "is_file", is_file)
    assert spool.find("arrival", "file") == spool.arrivals / "arrival" / "file"
