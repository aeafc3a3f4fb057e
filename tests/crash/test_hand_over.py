"""SIGKILL at every crash point of the hand-over to a store: nothing is lost, and nothing is counted twice."""

import signal
from collections import Counter
from pathlib import Path

import pytest
from support.crash.crash_site import situations
from support.crash.forking import Forked
from support.machine.dicom_programs import stop, wait_until
from support.sites import ledger_place
from support.sites.cluster_site import ClusterNode, ClusterSite
from support.sites.line_site import instance
from support.studies.fingerprints import sha256

pytestmark = pytest.mark.programs
SHARES = 4
MODULES = ("line.hand_over.", "line.admit.")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("files")
    return [instance(folder, f"f{number}", StudyInstanceUID="1.2.3.4") for number in range(3)]


@pytest.fixture(scope="module")
def points(files, postgresql_server, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("recorded")
    with ledger_place.on(postgresql_server):
        site = ClusterSite(folder)
        node = site.node("a")
        node.arrive(*files)
        work(site, node, 1, record=str(folder / "points"))
    return [point for point in situations(folder / "points") if point.split()[-1].startswith(MODULES)]


def test_a_hand_over_passes_the_points_of_every_step(points):
    steps = {point.rpartition(".")[2] for point in points}
    assert steps == {"_copy", "_copy_file", "copy_to_store", "_enter", "drop_received"}
    effects = {point.split()[1] for point in points}
    assert effects == {"unlink", "write", "fsync", "rename", "commit"}


@pytest.mark.parametrize("share", range(SHARES))
def test_a_node_killed_at_every_point_leaves_each_folder_here_or_there(
    share, points, files, postgresql_server, tmp_path
):
    sent = Counter(sha256(file.read_bytes()) for file in files)
    for number, point in enumerate(points[share::SHARES]):
        with ledger_place.on(postgresql_server):
            site = ClusterSite(tmp_path / str(number))
            node = site.node("a")
            node.arrive(*files)
            killed(node, point)
            here, there = node.waiting(), site.contents()
            assert sent in (here, there), f"{point}: neither here nor there is all of it"
            print(f"{point:58} here {here.total()} there {there.total()}")
            work(site, node, 1)
            assert site.contents() == sent, point
            assert set(site.delivered().values()) == {1}, point
            assert len(site.delivered()) == len(files), point
            assert [row["state"] for row in site.rows("arrival")] == ["settled"], point
            assert len(site.rows("instance")) == len(files), point
            assert list(node.spool.received.iterdir()) == list(node.spool.arrivals.iterdir()) == [], point


def killed(node: ClusterNode, point: str) -> None:
    process = start(node, point=point)
    try:
        assert process.wait(60) == -signal.SIGKILL, point
    finally:
        stop(process)


def work(site: ClusterSite, node: ClusterNode, count: int, **how: str) -> None:
    """Run the worker until so many arrivals have ended, and nothing is left in the node's own room."""
    process = start(node, point="no such point", **how)
    try:
        wait_until(
            lambda: (
                process.poll() is not None or (site.is_settled(count) and not any(node.spool.received.iterdir()))
            ),
            seconds=60,
            what="it is settled",
        )
    except AssertionError as error:
        raise AssertionError(f"{error}: {log_of(node).read_text()}") from error
    finally:
        code = stop(process)
    assert code == 0, log_of(node).read_text()


def start(node: ClusterNode, **how: str) -> Forked:
    return Forked({**how, "words": ["--site", str(node.file), "work"], "log": str(log_of(node))})


def log_of(node: ClusterNode) -> Path:
    return node.file.with_name("work.log")
