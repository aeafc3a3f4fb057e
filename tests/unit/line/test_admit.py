"""What is admitted is durable, and has been read by then; a file that cannot be flushed is not admitted."""

import threading
import time
from dataclasses import replace

import pytest
from support.sites.line_site import arrive, instance, settings_for, states, working

from pipeline.disc.objects import raw
from pipeline.disc.objects.entry import WANTED
from pipeline.line import admit as admit_module
from pipeline.line import identify
from pipeline.line.admit import admit
from pipeline.line.identify import ReadAhead, contents_of
from pipeline.line.identify_arrival import identify_arrival
from pipeline.spool.hashed_files import KEPT_SECONDS, state_of


@pytest.fixture
def site(tmp_path):
    with working(settings_for(tmp_path)) as (site, _):
        yield site


def test_what_was_not_read_ahead_is_read_while_it_is_flushed(site, tmp_path, monkeypatch):
    name = arrive(site.spool, instance(tmp_path, "a"), instance(tmp_path, "b"))
    folder, ahead = site.spool.arrivals / name, ReadAhead()
    first = min(folder.glob("CT*"))
    known = identify.read(first)
    ahead.keep(known.state, known)
    opened = []
    real = identify.read_ahead
    monkeypatch.setattr(identify, "read_ahead", lambda tasks, pool: real(noted(tasks, opened), pool))
    admit(name, site, ahead)
    assert len(opened) == 1
    assert first not in opened
    monkeypatch.setattr(identify, "found_in", lambda tasks, _: never(tasks))
    assert len(contents_of(folder, site.spool.run, site.pool, ahead).found) == 2


def noted(tasks, opened):
    for task in tasks:
        opened.append(task.path)
        yield task


def never(tasks):
    assert list(tasks) == []
    return []


def test_what_cannot_be_flushed_is_not_admitted(site, tmp_path, monkeypatch):
    name = arrive(site.spool, instance(tmp_path))

    def fails(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(admit_module, "fsync_tree", fails)
    with pytest.raises(OSError, match="Input/output error"):
        admit(name, site, ReadAhead())
    assert states(site, "arrivals") == {}


def test_of_what_cannot_be_flushed_nothing_that_was_read_is_believed(site, tmp_path, monkeypatch):
    name = arrive(site.spool, instance(tmp_path, "a"), instance(tmp_path, "b"))
    ahead = ReadAhead()
    files = sorted((site.spool.arrivals / name).glob("CT*"))
    for path in files:
        known = identify.read(path)
        site.hashed.keep(known.state, known.received_sha256)
    first = identify.read(files[0])
    ahead.keep(first.state, first)
    raw.read_ahead(files[0], WANTED, tmp_path)
    assert raw._ahead.look_up(first.state)
    has_been_read = threading.Event()
    real = admit_module.read_the_rest

    def read_the_rest(*arguments):
        yield from real(*arguments)
        has_been_read.set()

    def fails(_):
        assert has_been_read.wait(60)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(admit_module, "read_the_rest", read_the_rest)
    monkeypatch.setattr(admit_module, "fsync_tree", fails)
    with pytest.raises(OSError, match="Input/output error"):
        admit(name, site, ahead)
    monkeypatch.setattr("pipeline.spool.hashed_files.sha256_of", lambda _: "read again")
    for path in files:
        assert ahead.look_up(state_of(path.stat())) is None
        assert raw._ahead.look_up(state_of(path.stat())) is None
        assert site.hashed.sha256_of(path) == "read again"


def test_a_file_that_takes_minutes_to_read_does_not_keep_its_arrival_out_of_the_ledger(
    site, tmp_path, monkeypatch
):
    name = arrive(site.spool, instance(tmp_path))
    found = identify.read(next((site.spool.arrivals / name).glob("CT*")))
    may_go_on, has_ended, ahead = threading.Event(), threading.Event(), ReadAhead()

    def read_the_rest(*_):
        may_go_on.wait(60)
        yield found.state, found
        has_ended.set()

    monkeypatch.setattr(admit_module, "read_the_rest", read_the_rest)
    monkeypatch.setattr(admit_module, "READING_SECONDS", 0.01)
    too_late = threading.Timer(20, may_go_on.set)
    too_late.daemon = True
    too_late.start()
    admit(name, site, ahead)
    assert not may_go_on.is_set()
    assert states(site, "arrivals") == {"admitted": 1}
    may_go_on.set()
    assert not has_ended.wait(0.1), "it is stopped"
    assert ahead.look_up(found.state) is None, "what is read too late is not kept for ever"


def test_what_ends_the_reading_is_said(site, tmp_path, monkeypatch, caplog):
    def fails(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(admit_module, "read_the_rest", fails)
    admit(arrive(site.spool, instance(tmp_path)), site, ReadAhead())
    assert "read what is admitted" in caplog.text


def test_a_kept_hash_is_as_old_as_its_reading(site, tmp_path, monkeypatch):
    name = arrive(site.spool, instance(tmp_path, "a"), instance(tmp_path, "b"))
    early, late = sorted((site.spool.arrivals / name).glob("CT*"))
    ahead = ReadAhead()
    for path, age in ((early, KEPT_SECONDS + 1), (late, KEPT_SECONDS / 2)):
        known = identify.read(path)
        assert time.monotonic() - known.read_at < KEPT_SECONDS / 2
        ahead.keep(known.state, replace(known, read_at=time.monotonic() - age))
    admit(name, site, ahead)
    identify_arrival(name, site, ahead)
    monkeypatch.setattr("pipeline.spool.hashed_files.sha256_of", lambda _: "read again")
    assert site.hashed.sha256_of(early) == "read again"
    assert site.hashed.sha256_of(late) != "read again"
