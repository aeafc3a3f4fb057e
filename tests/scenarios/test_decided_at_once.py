"""Two people decide about one thing at once, or one while it settles: one decides, and the other is told."""

import json
import shutil
from dataclasses import dataclass

import pytest
from sqlalchemy import func, select
from support.crash.moments import point_of
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline import crash_points
from pipeline.errors import Permanent
from pipeline.ledger.tables import delivery
from pipeline.ledger.tables import instance as instances
from pipeline.line import quarantine, settle
from pipeline.line.identify import ACCOUNT
from pipeline.line.line import Line
from pipeline.site.site import Site
from pipeline.spool.durable import rename_durably
from pipeline.worker.worker import Worker


@dataclass(frozen=True)
class Situation:
    """An arrival of an instance that has been delivered, and of files that were set aside and mended since."""

    site: Site
    worker: Worker
    name: str

    def release(self, file: str = "") -> None:
        quarantine.release(f"{self.name}/{file}", self.site.spool, self.site.ledger)

    def discard(self, file: str = "") -> list:
        return quarantine.discard(f"{self.name}/{file}", self.site.spool, self.site.ledger)

    def settle(self) -> None:
        settle.settle(self.name, self.site)

    def go_on(self) -> None:
        rounds(self.worker, until=all_settled(self.site))

    def rows(self) -> dict[str, str]:
        with self.site.ledger.reading() as look:
            rows = list(look.execute(select(instances)))
        return {row.file: "discarded" if row.discarded_at else row.state for row in rows}

    def deliveries(self) -> int:
        with self.site.ledger.reading() as look:
            return look.scalar(select(func.count()).select_from(delivery))

    def assert_the_account_is_true(self) -> None:
        account = json.loads((self.site.spool.settled / self.name / ACCOUNT).read_bytes())
        with self.site.ledger.reading() as look:
            rows = {row.file: row.state for row in look.execute(select(instances))}
        assert {one["file"]: one["state"] for one in account["instances"]} == rows

    def places(self, file: str = "") -> list:
        return [room for room in self.site.spool.rooms_of_arrivals if (room / self.name / file).exists()]


GOOD, ONE, OTHER = "CT.X.00000", "CT.X.00001", "CT.X.00002"


@pytest.fixture
def given(tmp_path, monkeypatch):
    """Nothing of it has settled."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0" * 200)
    with working(settings_for(tmp_path)) as (site, worker):
        name = arrive(site.spool, instance(tmp_path, "good"), broken, broken)
        with monkeypatch.context() as patch:
            patch.setattr(Line, "_ended_arrivals", lambda _: ())
            rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1})
        for file in (ONE, OTHER):
            shutil.copyfile(instance(tmp_path, file), site.spool.find(name, file))
        yield Situation(site, worker, name)


@pytest.fixture
def settled(given):
    given.go_on()
    assert given.rows() == {GOOD: "passed", ONE: "quarantined", OTHER: "quarantined"}
    return given


@pytest.fixture
def garbage(tmp_path):
    """An arrival of which nothing can be read."""
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0" * 200)
    with working(settings_for(tmp_path)) as (site, worker):
        found = Situation(site, worker, arrive(site.spool, broken))
        found.go_on()
        assert found.places() == [site.spool.quarantine]
        yield found


@pytest.fixture
def on_its_way(given):
    """An arrival that somebody has set aside as a whole."""
    settle.set_aside(given.name, "by hand", given.site)
    return given


@pytest.fixture
def at(monkeypatch):
    """Have something happen once at a point of the line."""

    def arrange(point: str, *acts) -> None:
        def meanwhile(reached: str) -> None:
            if reached == point_of(point):
                monkeypatch.setattr(crash_points, "observer", lambda _: None)
                for act in acts:
                    act()

        monkeypatch.setattr(crash_points, "observer", meanwhile)

    return arrange


@pytest.fixture
def before(monkeypatch):
    """Have something happen once, right before a function is called."""

    def arrange(owner, name: str, act) -> None:
        real = getattr(owner, name)

        def wrapped(*arguments, **options):
            monkeypatch.setattr(owner, name, real)
            act()
            return real(*arguments, **options)

        monkeypatch.setattr(owner, name, wrapped)

    return arrange


def told():
    return pytest.raises(Permanent, match=r"has been (released or )?discarded")


# --- two people -------------------------------------------------------------------------------------------


def test_what_two_release_at_once_goes_once(settled, at):
    at("release-reopened", lambda: settled.release(ONE), settled.go_on)
    with told():
        settled.release(ONE)
    settled.go_on()
    assert settled.deliveries() == 2
    settled.assert_the_account_is_true()


def test_of_two_releases_the_second_does_what_the_first_did_not(settled, at):
    at("release-reopened", lambda: settled.release(ONE), settled.go_on)
    settled.release()
    settled.go_on()
    assert settled.rows() == {GOOD: "passed", ONE: "passed", OTHER: "passed"}
    assert settled.deliveries() == 3
    settled.assert_the_account_is_true()


def test_what_another_releases_is_not_discarded(settled, before):
    before(quarantine, "_note_discarded", lambda: settled.release(ONE))
    with told():
        settled.discard(ONE)
    settled.go_on()
    assert settled.rows()[ONE] == "passed"
    assert settled.places(ONE) == [settled.site.spool.settled]
    assert settled.deliveries() == 2


@pytest.mark.parametrize("point", ["release-reopened", "discard-noted"])
def test_what_another_discards_is_not_released(settled, at, point):
    if point == "release-reopened":
        at(point, lambda: settled.discard(ONE))
        with told():
            settled.release(ONE)
    else:

        def release() -> None:
            with told():
                settled.release(ONE)

        at(point, release)
        assert len(settled.discard(ONE)) == 1
    settled.go_on()
    assert settled.rows()[ONE] == "discarded"
    assert settled.places(ONE) == []
    assert settled.deliveries() == 1
    settled.assert_the_account_is_true()


def test_what_two_discard_at_once_is_deleted_once(settled, at):
    at("discard-noted", lambda: settled.discard(ONE))
    assert settled.discard(ONE) == []
    with told():
        settled.discard(ONE)
    assert settled.places(ONE) == []


def test_what_was_discarded_and_not_deleted_can_be_discarded_again(settled, at):
    def killed() -> None:
        raise KeyboardInterrupt

    at("discard-noted", killed)
    with pytest.raises(KeyboardInterrupt):
        settled.discard(ONE)
    assert len(settled.discard(ONE)) == 1
    assert settled.places(ONE) == []


def test_one_is_discarded_while_another_of_the_same_arrival_is_released(settled, before):
    before(quarantine, "renew_account", lambda: settled.release(OTHER))
    assert len(settled.discard(ONE)) == 1
    settled.go_on()
    assert settled.rows() == {GOOD: "passed", ONE: "discarded", OTHER: "passed"}
    settled.assert_the_account_is_true()


# --- a whole arrival --------------------------------------------------------------------------------------


def test_a_whole_arrival_that_another_releases_is_not_discarded(garbage, before):
    before(quarantine, "_note_discarded", garbage.release)
    with told():
        garbage.discard()
    garbage.go_on()
    assert garbage.places(GOOD) == [garbage.site.spool.quarantine]
    assert garbage.rows() == {GOOD: "quarantined"}


def test_a_whole_arrival_that_another_releases_is_not_taken_in_twice(garbage, tmp_path, before):
    shutil.copyfile(instance(tmp_path), garbage.site.spool.quarantine / garbage.name / GOOD)
    before(quarantine, "_release_arrival", lambda: (garbage.release(), garbage.go_on()))
    with told():
        garbage.release()
    garbage.go_on()
    assert garbage.rows() == {GOOD: "passed"}
    assert garbage.deliveries() == 1


def test_a_whole_arrival_that_another_discards_is_not_released(garbage, at):
    def release() -> None:
        with told():
            garbage.release()

    at("discard-noted", release)
    assert len(garbage.discard()) == 1
    assert garbage.places() == []


def test_what_was_set_aside_on_its_way_and_is_discarded_leaves_nothing_behind(on_its_way, at):
    at("release-reopened", on_its_way.discard)
    with told():
        on_its_way.release()
    assert on_its_way.places() == []
    for _ in range(3):
        on_its_way.worker.round()
    assert states(on_its_way.site, "arrivals") == {"quarantined": 1}


def test_what_was_set_aside_on_its_way_is_released_by_one(on_its_way, before):
    before(quarantine, "_release_instances", on_its_way.release)
    with told():
        on_its_way.release()
    on_its_way.go_on()
    assert on_its_way.places() == [on_its_way.site.spool.settled]
    on_its_way.assert_the_account_is_true()


# --- while it settles -------------------------------------------------------------------------------------


def test_a_file_whose_arrival_settles_while_it_is_discarded_is_deleted(given, at):
    at("discard-noted", given.settle)
    assert len(given.discard(ONE)) == 1
    assert given.places(ONE) == []
    given.assert_the_account_is_true()


def test_a_file_whose_arrival_changes_rooms_while_it_is_deleted_is_deleted(given, before):
    spool, name = given.site.spool, given.name
    before(type(spool.root), "unlink", lambda: rename_durably(spool.arrivals / name, spool.settled / name))
    assert spool.remove(name, ONE) == spool.settled / name / ONE
    assert given.places(ONE) == []


@pytest.mark.parametrize("point", ["release-reopened", "released"])
def test_an_account_is_true_though_the_arrival_settled_while_something_of_it_was_released(given, at, point):
    at(point, given.settle)
    given.release(ONE)
    given.go_on()
    assert given.rows()[ONE] == "passed"
    given.assert_the_account_is_true()


@pytest.mark.parametrize("point", ["settle-account", "settle-renamed"])
def test_what_is_released_while_its_arrival_settles_is_not_settled_before_it_went(given, at, point):
    at(point, lambda: given.release(ONE))
    given.settle()
    assert states(given.site, "arrivals") == {"processing": 1}
    given.go_on()
    assert given.rows()[ONE] == "passed"
    given.assert_the_account_is_true()
