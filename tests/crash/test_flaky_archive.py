"""The archive behind a network that cuts, delays, resets, falls silent: all is delivered once, and truly said."""

from pathlib import Path

import pytest
from support.crash.crash_scene import Scene, make_scene
from support.crash.crash_site import CrashSite
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.peers.flaky_proxy import Cut, Fault, FlakyProxy, Silence, Slow, flaky_proxy
from support.studies.fingerprints import sha256

QUICK = {"poll_seconds": 0.1, "shortest_wait": 0.1}
FAULTS: dict[str, Fault] = {
    "accepted and closed": Cut("up", 0),
    "accepted and reset": Cut("up", 0, is_reset=True),
    "cut in the request's head": Cut("up", 100),
    "cut in the body": Cut("up", 20_000),
    "reset in the body": Cut("up", 20_000, is_reset=True),
    "cut late in the body": Cut("up", 30_000),
    "no answer": Cut("down", 0),
    "cut in the status line": Cut("down", 10),
    "cut in the answer's body": Cut("down", 400),
    "reset in the answer's body": Cut("down", 400, is_reset=True),
    "cut in a later answer": Cut("down", 1_000),
    "silence in the body": Silence("up", 20_000),
    "silence in the answer": Silence("down", 300),
    "slow": Slow(0.002),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return make_scene(tmp_path_factory.mktemp("scene"))


@pytest.fixture
def behind(scene: Scene, tmp_path: Path):
    """A site at which everything has arrived, its archive behind a proxy."""
    with FakeDcm4chee() as archive, flaky_proxy(archive.port) as proxy:
        site = CrashSite(tmp_path, archive, how=QUICK)
        site.about_archive = {
            "url": archive.url.replace(str(archive.port), str(proxy.port)),
            "connect_timeout": "1s",
            "read_timeout": "1s",
        }
        site.filed.mkdir()
        site.log.touch()
        site.configure()
        site.spool.prepare()
        scene.arrive(site)
        yield site, proxy


def assert_receipts_are_true(site: CrashSite) -> None:
    """What a receipt says has arrived is there, with the very bytes that were pinned; and nothing else is."""
    said = {row["sha256"] for row in site.receipts_by_destination() if row["destination"] == "archive"}
    assert said == {sha256(content) for content in site.archive.stored.values()}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_of_the_network_costs_time_and_nothing_else(name: str, behind: tuple[CrashSite, FlakyProxy]):
    site, proxy = behind
    proxy.faults.extend([FAULTS[name]] * 4)
    site.work()
    assert proxy.struck, "the network did nothing"
    site.assert_all_is_accounted_for()
    assert_receipts_are_true(site)


@pytest.mark.parametrize("name", ["reset in the body", "reset in the answer's body"])
@pytest.mark.parametrize("point", ["deliver-attempt", "deliver-receipt"])
def test_a_worker_that_dies_behind_a_faulty_network_goes_on(
    name: str, point: str, behind: tuple[CrashSite, FlakyProxy]
):
    site, proxy = behind
    proxy.faults.extend([FAULTS[name]] * 4)
    assert site.killed("work", point=point, count=2)
    proxy.faults.extend([FAULTS[name]] * 2)
    site.work()
    assert proxy.struck, "the network did nothing"
    site.assert_all_is_accounted_for()
    assert_receipts_are_true(site)
