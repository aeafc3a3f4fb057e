"""Work ahead: what has been received is read, encoded and prepared before its study is due, and never twice."""

import os
import time
from pathlib import Path

import pytest
from support.sites.line_site import (
    RECEIVER,
    all_settled,
    arrive,
    folder_of,
    instance,
    rounds,
    settings_for,
    states,
    working,
)

from pipeline.destinations.null import NullDestination
from pipeline.ledger import claims, waiting_studies
from pipeline.line import identify, work_ahead
from pipeline.line import prepare_study as prepare_study_module
from pipeline.line.identify import ReadAhead, contents_of
from pipeline.line.prepare import PrepareTask
from pipeline.line.prepare_study import PreparedAhead, prepare_study
from pipeline.line.work_ahead import WorkAhead
from pipeline.spool import hashed_files
from pipeline.spool.hashed_files import sha256_of, state_of
from pipeline.spool.spool import admit

J2K = {"name": "nowhere", "kind": "null", "encode": "j2k"}


def kept(site) -> list[Path]:
    return sorted(site.spool.ahead.iterdir())


def never(receiver: str, study: str) -> bool:
    return False


def test_files_of_a_study_that_still_comes_in_are_encoded(tmp_path):
    with working(settings_for(tmp_path, destinations=(J2K,))) as (site, _):
        folder_of(
            site.spool, instance(tmp_path, "a", InstanceNumber=1), instance(tmp_path, "b", Rows=64, Columns=256)
        )
        WorkAhead(site, never).look()
        assert len(kept(site)) == 2


def test_a_file_that_is_still_written_to_waits(tmp_path):
    with working(settings_for(tmp_path, destinations=(J2K,))) as (site, _):
        folder_of(site.spool, instance(tmp_path), age=-1.0)
        WorkAhead(site, never).look()
        assert kept(site) == []


def test_nothing_is_encoded_where_no_destination_asks_for_it(tmp_path):
    with working(settings_for(tmp_path)) as (site, _):
        folder_of(site.spool, instance(tmp_path))
        WorkAhead(site, never).look()
        assert kept(site) == []


def test_the_study_is_prepared_of_what_was_encoded_and_nothing_is_left(tmp_path):
    with working(waiting_settings(tmp_path)) as (site, worker):
        folder = folder_of(site.spool, instance(tmp_path), age=30.0)
        WorkAhead(site, never).look()
        (made,) = kept(site)
        inode = made.stat().st_ino
        WorkAhead(site, never).look()
        assert [file.stat().st_ino for file in kept(site)] == [inode]  # not made again
        admit(folder.parent, folder)
        object.__setattr__(site.receiver("modalities"), "quiet_seconds", 0)
        rounds(worker, until=all_settled(site))
        assert states(site, "deliveries") == {"delivered": 1}
        assert kept(site) == []


def waiting_settings(folder: Path, **site):
    """Return a site whose receiver waits for a minute after the last file."""
    receiver = {**RECEIVER, "quiet_seconds": 60, "to": ["nowhere"]}
    return settings_for(folder, destinations=(J2K,), receivers=[receiver], **site)


@pytest.fixture
def waiting(tmp_path):
    """A site with a study of three instances that waits for more, and what was prepared of it ahead."""
    with working(waiting_settings(tmp_path)) as (site, worker):
        arrive(site.spool, *(instance(tmp_path, name) for name in "abc"), age=30.0)
        rounds(worker, until=lambda: states(site, "instances") == {"received": 3})
        ahead = PreparedAhead()
        work = WorkAhead(site, never, prepared=ahead)
        work.look()
        yield site, worker, work, ahead


def study_of(site):
    with site.ledger.reading() as connection:
        (study,) = waiting_studies.waiting(connection)
    return study


def prepared_now(site, monkeypatch, ahead: PreparedAhead | None) -> tuple[int, dict]:
    """Prepare the waiting study; return how many tasks the pool got, and the results."""
    tasks: list[PrepareTask] = []
    each = site.pool.each

    def counted(function, some, *limits):
        some = list(some)
        tasks.extend(some)
        return each(function, some, *limits)

    with monkeypatch.context() as patched:
        patched.setattr(site.pool, "each", counted)
        parts = list(prepare_study(study_of(site), site, ahead))
    return len(tasks), {number: outcome for part in parts for number, outcome in part.outcomes.items()}


def test_what_waits_until_its_study_is_complete_is_prepared_and_not_prepared_again(waiting, monkeypatch):
    site, _, _, ahead = waiting
    tasks, results = prepared_now(site, monkeypatch, ahead)
    assert tasks == 0
    assert [len(results[number].outputs) for number in sorted(results)] == [1, 1, 1]
    paths = [output.path for result in results.values() for output in result.outputs]
    assert all(sha256_of(output.path) == output.sha256 for r in results.values() for output in r.outputs)
    again, same = prepared_now_without(site, monkeypatch)
    assert again == 3  # what was taken is forgotten
    assert [output.path for result in same.values() for output in result.outputs] == paths


def prepared_now_without(site, monkeypatch):
    with site.ledger.transaction() as connection:
        claims.release_studies_of(connection, site.claimant.worker)
    return prepared_now(site, monkeypatch, None)


def test_what_came_later_is_prepared_by_the_study(waiting, tmp_path, monkeypatch):
    site, worker, _, ahead = waiting
    arrive(site.spool, instance(tmp_path, "d"), age=20.0)
    rounds(worker, until=lambda: states(site, "instances") == {"received": 4})
    tasks, results = prepared_now(site, monkeypatch, ahead)
    assert (tasks, len(results)) == (1, 4)


def test_only_what_was_added_is_prepared_at_the_next_look(waiting, tmp_path, monkeypatch):
    site, worker, work, ahead = waiting
    ahead._results.clear()  # as results are forgotten of which there are too many
    asked = []
    each = site.pool.each
    monkeypatch.setattr(site.pool, "each", lambda does, some, *limits: each(does, noting(asked, some), *limits))
    work.look()
    assert asked == []
    arrive(site.spool, instance(tmp_path, "d"), age=20.0)
    rounds(worker, until=lambda: states(site, "instances") == {"received": 4})
    asked.clear()
    work.look()
    assert len(asked) == 1


def noting(asked: list, tasks):
    for task in tasks:
        asked.append(task)
        yield task


def test_what_has_begun_when_other_work_waits_for_the_pool_is_kept(tmp_path, monkeypatch):
    with working(waiting_settings(tmp_path)) as (site, worker):
        arrive(site.spool, *[instance(tmp_path, str(number)) for number in range(6)], age=20.0)
        rounds(worker, until=lambda: states(site, "instances") == {"received": 6})
        ahead = PreparedAhead()
        work = WorkAhead(site, lambda *_: False, None, ahead)
        asked = iter([0] * 5)  # Twice before anything begins, and before each of the first three tasks.
        monkeypatch.setattr(type(site.pool), "waiting", property(lambda _: next(asked, 99)))
        work._prepare_waiting()
        begun = set().union(*work._begun.values())
        assert 0 < len(begun) < 6
        assert set(ahead._results) == begun


def test_what_was_prepared_by_other_rules_is_prepared_again(waiting, monkeypatch):
    site, _, _, ahead = waiting
    others = [*site.rules, site.rules[0]]
    monkeypatch.setattr(type(site), "rules_of", lambda *_: others)
    assert prepared_now(site, monkeypatch, ahead)[0] == 3


def test_what_could_not_be_prepared_is_told_by_the_study(tmp_path, monkeypatch):
    with working(waiting_settings(tmp_path)) as (site, worker):
        name = arrive(site.spool, instance(tmp_path), age=30.0)
        rounds(worker, until=lambda: states(site, "instances") == {"received": 1})
        (file,) = (site.spool.arrivals / name).glob("CT*")
        with file.open("r+b") as changed:
            changed.seek(-1, os.SEEK_END)
            changed.write(b"\1")
        ahead = PreparedAhead()
        WorkAhead(site, never, prepared=ahead).look()
        tasks, results = prepared_now(site, monkeypatch, ahead)
        assert tasks == 1
        assert "SHA-256 is another" in str(*results.values())


def test_only_so_many_results_are_remembered(waiting, monkeypatch):
    site, _, _, _ = waiting
    monkeypatch.setattr(prepare_study_module, "MOST_AHEAD", 2)
    ahead = PreparedAhead()
    WorkAhead(site, never, prepared=ahead).look()
    assert prepared_now(site, monkeypatch, ahead)[0] == 1


def test_a_study_that_is_being_prepared_is_left_alone(tmp_path, monkeypatch):
    with working(waiting_settings(tmp_path)) as (site, worker):
        arrive(site.spool, instance(tmp_path), age=30.0)
        rounds(worker, until=lambda: states(site, "instances") == {"received": 1})
        ahead = PreparedAhead()
        WorkAhead(site, lambda *_: True, prepared=ahead).look()
        assert prepared_now(site, monkeypatch, ahead)[0] == 1


@pytest.mark.parametrize("bound", ["age", "bytes", "clock set back"])
def test_what_nobody_takes_is_deleted(bound, tmp_path, monkeypatch):
    with working(settings_for(tmp_path, destinations=(J2K,))) as (site, _):
        folder_of(site.spool, instance(tmp_path))
        work = WorkAhead(site, never)
        work.look()
        (made,) = kept(site)
        if bound == "bytes":
            monkeypatch.setattr(work_ahead, "MOST_BYTES", 10)
        else:
            moment = time.time() + (-2 * work_ahead.KEPT_SECONDS if bound == "age" else 3600)
            os.utime(made, (moment, moment))
        work._tidied = float("-inf")
        work.look()
        assert kept(site) == []


def test_little_space_is_left_to_what_is_received(tmp_path, monkeypatch):
    with working(settings_for(tmp_path, destinations=(J2K,))) as (site, _):
        folder_of(site.spool, instance(tmp_path))
        monkeypatch.setattr(work_ahead, "free_bytes", lambda _: work_ahead.MOST_BYTES)
        WorkAhead(site, never).look()
        assert kept(site) == []


def test_what_was_read_while_it_came_in_is_not_read_again(tmp_path, monkeypatch):
    """Of an order's receiver, too; and where a file has changed since, the new content is what counts."""
    with working(settings_for(tmp_path)) as (site, _):
        files = [instance(tmp_path, name) for name in "abc"]
        folder = folder_of(site.spool, *files)
        read = ReadAhead()
        WorkAhead(site, never, read).look()
        changed = sorted(folder.iterdir())[1]
        changed.write_bytes(instance(tmp_path, "d").read_bytes())
        name = admit(folder.parent, folder)
        opened = []
        monkeypatch.setattr(identify, "found_in", lambda tasks, pool: map(noted(opened), tasks))
        contents = contents_of(site.spool.arrivals / name, site.spool.run, site.pool, read)
        assert opened == [changed.name]
        assert {found.file: found.received_sha256 for found in contents.found} == {
            file.name: sha256_of(file) for file in (site.spool.arrivals / name).glob("CT*")
        }
        assert [found.file for found in contents.found][-1] == changed.name  # in the order received


def test_what_was_read_counts_although_its_folder_was_admitted_before_the_answer_was_taken(tmp_path, monkeypatch):
    with working(settings_for(tmp_path)) as (site, _):
        folder = folder_of(site.spool, instance(tmp_path, "a"), instance(tmp_path, "b"))
        names, read = [], ReadAhead()

        def admitted_meanwhile(tasks, pool):
            answers = list(identify.read_ahead(tasks, pool))
            names.append(admit(folder.parent, folder))
            return answers

        monkeypatch.setattr(work_ahead, "read_ahead", admitted_meanwhile)
        WorkAhead(site, never, read).look()
        opened = []
        monkeypatch.setattr(identify, "found_in", lambda tasks, pool: map(noted(opened), tasks))
        contents = contents_of(site.spool.arrivals / names[0], site.spool.run, site.pool, read)
        assert opened == []
        assert len(contents.found) == 2


@pytest.mark.parametrize("is_for_orders", [True, False])
def test_what_somebody_waits_for_is_on_its_way_to_the_disk_before_it_is_admitted(
    tmp_path, monkeypatch, is_for_orders
):
    begun: list[Path] = []
    monkeypatch.setattr(work_ahead, "begin_flush", begun.append)
    with working(settings_for(tmp_path)) as (site, _):
        monkeypatch.setattr(type(site), "is_for_orders", lambda *_: is_for_orders)
        folder = folder_of(site.spool, instance(tmp_path, "a"), instance(tmp_path, "b"))
        ahead = WorkAhead(site, never)
        ahead.look()
        ahead.look()  # no file is looked at twice
    assert sorted(begun) == (sorted(folder.iterdir()) if is_for_orders else [])


def noted(opened: list[str]):
    def identified(task):
        opened.append(task.path.name)
        return identify.read(task.path)

    return identified


def test_only_so_much_is_remembered(monkeypatch):
    monkeypatch.setattr(hashed_files, "MOST", 2)
    read = ReadAhead()
    for inode in range(4):
        read.keep((inode, 1, 1), str(inode))
    assert [read.take((inode, 1, 1)) for inode in range(4)] == [None, None, "2", "3"]
    assert read.take((3, 1, 1)) is None


def test_a_file_that_cannot_be_read_is_tried_once_in_each_state(tmp_path, monkeypatch):
    with working(settings_for(tmp_path)) as (site, _):
        folder = folder_of(site.spool, instance(tmp_path))
        (file,) = folder.iterdir()
        os.truncate(file, 300)
        os.utime(file, (1, 1))
        tried = []
        monkeypatch.setattr(work_ahead, "read_ahead", lambda tasks, pool: tried.extend(tasks) or [])
        work = WorkAhead(site, never)
        work.look()
        work.look()
        assert len(tried) == 1
        os.utime(file, (2, 2))
        work.look()
        assert len(tried) == 2


@pytest.mark.parametrize(("mode", "read"), [("association", [True, True, False]), ("study", [False] * 3)])
def test_of_one_association_only_the_newest_file_may_still_be_written_to(tmp_path, mode, read):
    with working(settings_for(tmp_path, receivers=({**RECEIVER, "mode": mode},))) as (site, _):
        files = [instance(tmp_path, name, InstanceNumber=number) for number, name in enumerate("abc")]
        folder = folder_of(site.spool, *files, age=-1.0)  # as if all were written to just now
        ahead = ReadAhead()
        WorkAhead(site, never, ahead).look()
        came = sorted(folder.iterdir())
        assert [ahead.look_up(state_of(file.stat())) is not None for file in came] == read


@pytest.mark.parametrize("awaited", [{"nowhere"}, set()])
def test_the_destination_that_an_order_awaits_reads_what_comes_for_it_too(tmp_path, monkeypatch, awaited):
    read: list[Path] = []
    monkeypatch.setattr(NullDestination, "read_ahead", lambda _self, path, _scratch: read.append(path))
    with working(settings_for(tmp_path)) as (site, _):
        monkeypatch.setattr(type(site), "is_for_orders", lambda *_: True)
        site.awaited.update(awaited)
        folder = folder_of(site.spool, instance(tmp_path, "a"), instance(tmp_path, "b"))
        WorkAhead(site, never).look()
        assert sorted(read) == (sorted(folder.iterdir()) if awaited else [])
