"""A folder is handed over to the store whole or not at all, and this node's own stays until it has a row."""

import errno

import pytest
from sqlalchemy import select, update
from support.sites import ledger_place
from support.sites.line_site import arrive, instance, node_settings, states, working

from pipeline.ledger import nodes
from pipeline.ledger.nodes import NodeReport
from pipeline.ledger.tables import arrival
from pipeline.ledger.tables import node as node_table
from pipeline.line import hand_over, identify
from pipeline.line.admit import admit, of_others, parse_arrival_name
from pipeline.line.hand_over import clear_left_over, node_of, stored_name
from pipeline.line.identify import ReadAhead, contents_of
from pipeline.line.identify_arrival import identify_arrival
from pipeline.line.reconcile import reconcile

pytestmark = pytest.mark.programs


@pytest.fixture
def settings(postgresql_server, tmp_path):
    with ledger_place.on(postgresql_server):
        yield node_settings(tmp_path, "a-1.example")


@pytest.fixture
def site(settings):
    with working(settings) as (site, _):
        yield site


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_the_name_in_the_store_says_receiver_moment_and_node():
    stored = stored_name("1700000000000000001-ct-2-4711", "a-1.example")
    assert parse_arrival_name(stored) == (1700000000000000001, "ct-2")
    assert node_of(stored) == "a-1.example"
    assert node_of("1700000000000000001-ct-2-4711") == ""


def test_what_is_handed_over_has_its_times_its_hidden_files_and_what_was_read_ahead(site, tmp_path):
    name = arrive(site.spool, instance(tmp_path, "a"), instance(tmp_path, "b"), peer="10.0.0.1")
    folder, ahead = site.spool.received / name, ReadAhead()
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()}
    for file in folder.glob("CT*"):
        found = identify.read(file)
        ahead.keep(found.state, found)
    admit(name, site, ahead)
    (stored,) = names(site.spool.arrivals)
    assert stored == f"{name}@a-1.example"
    folder = site.spool.arrivals / stored
    assert {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in folder.iterdir()} == before
    assert ".envelope.json" in before
    assert names(site.spool.received) == []
    assert len(contents_of(folder, None, NoPool(), ahead).found) == 2
    assert states(site, "arrivals") == {"admitted": 1}


class NoPool:
    """Processes that must not be needed."""

    def each(self, _function, tasks, *_):
        assert list(tasks) == []
        return iter(())


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC, errno.ESTALE, errno.EDQUOT, errno.ETIMEDOUT])
def test_a_store_that_fails_leaves_nothing_there_and_everything_here(number, site, tmp_path, monkeypatch):
    name = arrive(site.spool, instance(tmp_path, "a"), instance(tmp_path, "b"))
    real, copied = hand_over.copy_durably, []

    def fails_once(source, copy):
        copied.append(copy)
        if len(copied) == 2:
            raise OSError(number, "as the store says")
        return real(source, copy)

    monkeypatch.setattr(hand_over, "copy_durably", fails_once)
    with pytest.raises(OSError, match="as the store says"):
        admit(name, site)
    assert names(site.spool.arrivals) == []
    assert len(names(site.spool.received / name)) == 2
    assert states(site, "arrivals") == {}
    admit(name, site)
    assert names(site.spool.received) == []
    assert states(site, "arrivals") == {"admitted": 1}


def test_what_was_read_back_otherwise_than_written_is_not_handed_over(site, tmp_path, monkeypatch):
    name = arrive(site.spool, instance(tmp_path))
    real = hand_over.copy_durably

    def damaged(source, copy):
        monkeypatch.setattr("os.posix_fadvise", lambda *_: copy.write_bytes(b"otherwise"))
        return real(source, copy)

    monkeypatch.setattr(hand_over, "copy_durably", damaged)
    with pytest.raises(OSError, match="what was read back"):
        admit(name, site)
    assert states(site, "arrivals") == {}
    assert names(site.spool.received) == [name]


def test_a_folder_that_is_being_deleted_is_not_handed_over_a_second_time(site, tmp_path, monkeypatch):
    name = arrive(site.spool, instance(tmp_path, "a"))
    seen: list[set[str]] = []
    remove = hand_over.remove_tree

    def watched(folder, **how):
        if folder == site.spool.received / f".{name}":
            seen.append(site.spool.received_names())
        remove(folder, **how)

    monkeypatch.setattr(hand_over, "remove_tree", watched)
    admit(name, site)
    assert seen == [set()]


def test_what_another_node_has_entered_meanwhile_has_one_row(site, tmp_path):
    name = arrive(site.spool, instance(tmp_path))
    stored = stored_name(name, "a-1.example")
    hand_over.copy_to_store(name, stored, site.spool)
    admit(stored, site)  # As another node does with what it finds there without a row.
    identify_arrival(stored, site)
    admit(name, site)
    assert states(site, "arrivals") == {"processing": 1}
    assert names(site.spool.received) == []


def test_an_arrival_that_two_workers_identify_at_once_is_entered_once(site, tmp_path, caplog):
    name = arrive(site.spool, instance(tmp_path))
    admit(name, site)
    (stored,) = names(site.spool.arrivals)
    identify_arrival(stored, site)
    identify_arrival(stored, site)
    assert states(site, "instances") == {"received": 1}
    assert "fenced what=" in caplog.text


def test_a_start_clears_what_this_node_left_and_nothing_of_another(site):
    for folder in (".1-ct-2@a-1.example", ".1-ct-2@b"):
        (site.spool.arrivals / folder).mkdir()
    (site.spool.received / ".1-ct-3").mkdir()
    clear_left_over(site.spool, "a-1.example")
    assert names(site.spool.arrivals) == [".1-ct-2@b"]
    assert names(site.spool.received) == []
    assert site.spool.arrival_names() == set()


def test_a_start_leaves_alone_what_another_node_at_work_has_brought(site, tmp_path):
    name = arrive(site.spool, instance(tmp_path))
    admit(name, site)
    (mine,) = names(site.spool.arrivals)
    theirs = f"{name}@b"
    with site.ledger.transaction() as change:
        nodes.report(change, NodeReport("b", "b", "1", (), 0, ""))
        change.execute(update(arrival).values(name=theirs))
    (site.spool.arrivals / mine).rename(site.spool.settled / theirs)
    half_made = site.spool.outputs / theirs / ".1.half-made"
    half_made.parent.mkdir()
    half_made.touch()
    assert of_others([theirs, mine], site) == {theirs}
    reconcile(site)
    assert (site.spool.settled / theirs).is_dir(), "the other one is about to say so"
    assert half_made.exists()
    with site.ledger.transaction() as change:
        change.execute(update(node_table).where(node_table.c.name == "b").values(lost_at=1.0))
    reconcile(site)
    assert (site.spool.arrivals / theirs).is_dir(), "nothing of it has been read, as far as the ledger knows"
    assert not half_made.exists()
    with site.ledger.reading() as look:
        assert look.scalars(select(arrival.c.name)).all() == [theirs]
