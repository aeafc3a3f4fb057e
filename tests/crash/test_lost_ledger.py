"""The ledger is lost, or damaged, while the worker lies dead in the middle of something."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite, crash_site
from support.studies.fingerprints import of_files

from pipeline.ledger import BEGUN, FILE_NAME
from pipeline.ledger.tables import arrival, delivery

MOMENTS = ["taken-in", "consigned", "deliver-receipt", "concluded", "settle-renamed", "settled"]


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def site(scene: Scene, tmp_path: Path):
    with crash_site(tmp_path) as one:
        scene.arrive(one)
        yield one


def remove(site: CrashSite) -> None:
    site.lose_the_ledger()


def remove_all_but_the_log(site: CrashSite) -> None:
    (site.spool.root / FILE_NAME).unlink()


def empty(site: CrashSite) -> None:
    remove(site)
    (site.spool.root / FILE_NAME).touch()


def damage(site: CrashSite) -> None:
    remove(site)  # a write-ahead log would mend it
    (site.spool.root / FILE_NAME).write_bytes(b"SQLite format 3\0" + b"\xff" * 20_000)


LOSSES = [remove, remove_all_but_the_log, empty, damage]


def held(site: CrashSite) -> set[str]:
    return {row["destination"] for row in site.rows(delivery) if row["held"] and row["state"] == "waiting"}


def assert_rebuilt(site: CrashSite) -> None:
    """Nothing is lost, nothing arrived twice or changed; what cannot be asked waits for a person's word."""
    assert held(site) <= {"nowhere"}
    if held(site):
        site.run("retry", "--all")
        site.work()
    site.assert_each_file_is_in_one_place()
    site.assert_the_ledger_agrees_with_the_rooms()
    site.assert_sent_is_delivered_or_set_aside()
    site.assert_the_archive_has_one_content_of_each()
    site.assert_accounts_are_valid()
    assert "Traceback" not in site.log.read_text(), site.text()


@pytest.mark.parametrize("point", MOMENTS)
def test_a_ledger_lost_in_the_middle_is_rebuilt_and_nothing_is_sent_twice(point, site):
    assert site.killed("work", point=point, count=2)
    remove(site)
    site.work()
    assert_rebuilt(site)
    assert "ledger-rebuilt" in site.log.read_text()


@pytest.mark.parametrize("lose", LOSSES, ids=lambda lose: lose.__name__)
def test_however_the_ledger_is_lost_what_cannot_be_asked_is_held(lose: Callable[[CrashSite], None], site):
    assert site.killed("work", point="settled")
    lose(site)
    site.work()
    assert held(site) == {"nowhere"}
    assert_rebuilt(site)


@pytest.mark.parametrize("point", ["ledger-creating", "ledger-set-aside"])
def test_a_loss_is_not_forgotten_when_the_worker_dies_over_it(point, site):
    assert site.killed("work", point="settled")
    damage(site)
    assert site.killed("work", point=point)
    site.work()
    assert held(site) == {"nowhere"}
    assert_rebuilt(site)


def test_what_arrived_before_the_first_start_is_nobodys_loss(site):
    assert not (site.spool.root / BEGUN).exists()
    site.work()
    assert held(site) == set()
    assert "ledger-rebuilt" not in site.log.read_text()


def test_a_settled_arrival_without_a_readable_account_is_set_aside_and_never_ages_out(site, scene):
    site.configure(keep_originals="1ms")
    site.work()
    remove(site)
    accounts = list(site.spool.settled.glob("*/account.json"))
    for account in accounts:
        account.write_bytes(account.read_bytes()[:100])
    assert site.killed("work", point="unreadable-account-set-aside")
    for _ in range(2):
        site.work()
    states = {row["name"]: row["state"] for row in site.rows(arrival)}
    assert {account.parent.name for account in accounts} <= {
        name for name, state in states.items() if state == "quarantined"
    }
    assert of_files(site.files().values()) == of_files(site.sent)
    for name in [account.parent.name for account in accounts]:
        site.run("quarantine", "release", name)
    site.work()
    assert_rebuilt(site)


def test_an_account_of_another_make_is_not_believed(site):
    site.work()
    remove(site)
    first, second, _ = sorted(site.spool.settled.glob("*/account.json"))
    alter(first, lambda account: account.update(version=2))
    alter(second, lambda account: account["instances"][0].update(unknown=1))
    site.work()
    site.assert_each_file_is_in_one_place()
    assert Counter(row["state"] for row in site.rows(arrival)) == {"quarantined": 4, "settled": 1}


def alter(account: Path, change: Callable[[dict], None]) -> None:
    content = json.loads(account.read_bytes())
    change(content)
    account.write_text(json.dumps(content))
