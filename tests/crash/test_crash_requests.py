"""The worker dies while an archive gets back what it lost: nothing is lost, nothing is sent with other bytes."""

import time
from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site

from pipeline.ledger import FILE_NAME, Ledger, redeliveries
from pipeline.ledger.tables import arrival, delivery, instance, receipt

POINTS = [
    "intake-entering",
    "taken-in",
    "claimed",
    "instance-prepared",
    "deliver-attempt",
    "attempted",
    "concluded",
]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(scene: Scene, tmp_path: Path):
    """A site that has delivered a study which the archive has lost since, and which has come again."""
    with crash_site(tmp_path) as one:
        one.arrive(*scene.first)
        one.work()
        one.archive.stored.clear()
        one.archive.keys.clear()
        one.arrive(*scene.first)
        yield one


def age_out(site: CrashSite) -> None:
    """Let the originals that were delivered be gone, as after their time."""
    ledger = Ledger(site.spool.root / FILE_NAME)
    with ledger.transaction() as change:
        first = change.scalar(arrival.select().with_only_columns(arrival.c.name).order_by(arrival.c.admitted_at))
        change.execute(arrival.update().where(arrival.c.name == first).values(gone_at=time.time()))
    ledger.close()
    for file in (site.spool.settled / first).iterdir():
        file.unlink()
    (site.spool.settled / first).rmdir()


@pytest.mark.parametrize("point", POINTS)
def test_a_worker_killed_twice_gives_it_back_all_the_same(point, site):
    assert site.killed("work", point=point), f"{point} is never reached"
    site.killed("work", point=point, count=2)
    site.work()
    assert len(site.archive.stored) == 3
    site.assert_the_archive_has_one_content_of_each()
    site.assert_each_file_is_in_one_place()
    site.assert_the_ledger_agrees_with_the_rooms()
    site.assert_accounts_are_valid()
    site.assert_nothing_temporary_is_left()


@pytest.mark.parametrize("point", ["claimed", "deliver-attempt", "attempted", "concluded"])
def test_so_it_is_where_the_duplicates_themselves_are_sent(point, site):
    age_out(site)
    assert site.killed("work", point=point), f"{point} is never reached"
    site.killed("work", point=point, count=2)
    site.work()
    assert len(site.archive.stored) == 3
    again: dict[str, set[str]] = {}
    for uid, content in site.archive.received[3:]:
        again.setdefault(uid, set()).add(content)
    assert {uid: len(contents) for uid, contents in again.items()} == dict.fromkeys(again, 1), "pinned once"
    duplicates = {row["id"]: row for row in site.rows(instance) if row["state"] == "duplicate"}
    sent = [row for row in site.rows(receipt) if row["instance"] in duplicates]
    assert len(sent) == 3
    assert all(row["sha256"] in duplicates[row["instance"]]["reason"] for row in sent)
    assert [row["state"] for row in site.rows(delivery) if row["requested"]] == ["delivered"]
    site.assert_accounts_are_valid()
    assert redeliveries.ONCE_IN == 24 * 3600
