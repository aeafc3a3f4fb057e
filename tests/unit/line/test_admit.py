"""What is admitted is durable, and has been read by then; a file that cannot be flushed is not admitted."""

import pytest
from support.sites.line_site import arrive, instance, settings_for, states, working

from pipeline.line import admit as admit_module
from pipeline.line import identify
from pipeline.line.admit import admit
from pipeline.line.identify import ReadAhead, contents_of


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
