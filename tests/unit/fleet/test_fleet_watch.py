"""A fleet is watched: no site waits for another, and an old answer never stands for a present one."""

import contextlib
import threading
import time

from support.machine.dicom_programs import free_port, wait_until
from support.sites.fleet_sites import answer_of, answering, fleet_site, report

from pipeline.fleet import fleet_watch
from pipeline.fleet.ask_site import SiteAnswer, SiteFailure
from pipeline.fleet.fleet_watch import FleetWatch
from pipeline.fleet.needs import Need


def answers(**values) -> bytes:
    return answer_of(report(**values).model_dump_json().encode())


def test_the_dead_the_hanging_and_the_lying_come_first_and_hold_back_nobody(tmp_path):
    with contextlib.ExitStack() as stack:
        well = stack.enter_context(answering(answers()))
        busy = stack.enter_context(answering(answers(quarantine=3)))
        hanging = stack.enter_context(answering())
        lying = stack.enter_context(answering(answer_of(b"<html>all is well</html>")))
        ports = {"a-well": well, "b-busy": busy, "c-hangs": hanging, "d-lies": lying, "e-dead": free_port()}
        watch = FleetWatch([fleet_site(tmp_path, name, port) for name, port in ports.items()])
        assert [view.failure for view in watch.views(time.time())] == [SiteFailure.NOT_ASKED] * 5
        watch.ask_once()
        views = watch.views(time.time())
    assert [(view.name, view.failure) for view in views] == [
        ("c-hangs", SiteFailure.NO_REPLY),
        ("d-lies", SiteFailure.MALFORMED),
        ("e-dead", SiteFailure.UNREACHABLE),
        ("b-busy", None),
        ("a-well", None),
    ]
    assert [view.since is not None for view in views] == [True, True, True, False, False]
    assert views[3].needs == (Need.QUARANTINE,)
    assert views[4].as_json()["state"] == "up"


def test_a_site_is_asked_again_and_since_when_it_is_lost_stays(tmp_path, monkeypatch):
    monkeypatch.setattr(fleet_watch, "EVERY_SECONDS", 0.02)
    lost = [SiteAnswer(None, SiteFailure.UNREACHABLE) for _ in range(3)]
    given = iter([SiteAnswer(report()), *lost, SiteAnswer(report())])
    turn, asked, seen = threading.Semaphore(0), threading.Semaphore(0), []

    def ask(_table):
        asked.release()
        turn.acquire()
        return next(given)

    monkeypatch.setattr(fleet_watch, "ask_site", ask)
    watch = FleetWatch([fleet_site(tmp_path, "north", 1, answer_timeout="60s")])
    before = set(threading.enumerate())
    watch.begin()
    watch.begin()
    begun = [thread for thread in threading.enumerate() if thread not in before and thread.name == "fleet-north"]
    assert len(begun) == 1, "a second call starts no second thread"
    for expected in (None, SiteFailure.UNREACHABLE, SiteFailure.UNREACHABLE, SiteFailure.UNREACHABLE, None):
        assert asked.acquire(timeout=60)
        before = watch._known["north"].answer
        turn.release()
        wait_until(lambda before=before: watch._known["north"].answer is not before, what="the next answer")
        (view,) = watch.views(time.time())
        assert view.failure is expected
        seen.append(view)
    assert asked.acquire(timeout=60)  # From here on its thread waits for a turn that never comes.
    assert seen[0].since is None
    assert seen[1].since == seen[3].since is not None
    assert seen[1].answered_at == seen[0].answered_at
    assert seen[4].since is None


def test_a_look_up_that_never_ends_and_a_bug_leave_no_old_answer_standing(tmp_path, monkeypatch):
    table = fleet_site(tmp_path, "north", 1, connect_timeout="100ms", answer_timeout="100ms")
    watch, ended = FleetWatch([table]), threading.Event()
    monkeypatch.setattr(fleet_watch, "ask_site", lambda _table: SiteAnswer(report()))
    watch.ask_once()
    monkeypatch.setattr(fleet_watch, "ask_site", lambda _table: ended.wait() and SiteAnswer(report()))
    try:
        watch.ask_once()
        (view,) = watch.views(time.time())
        assert (view.report, view.failure, view.needs) == (None, SiteFailure.NO_REPLY, (Need.UNKNOWN,))
        assert view.since is not None
    finally:
        ended.set()

    def broken(_table):
        raise RuntimeError

    other = FleetWatch([table])
    monkeypatch.setattr(fleet_watch, "ask_site", broken)
    other.ask_once()
    assert other.views(time.time())[0].is_lost
