"""SIGKILL at every crash point of an order, then a restart: it is done, once, with everything asked for."""

from pathlib import Path

import pydicom
import pytest
from support.crash.crash_site import situations
from support.crash.crash_stage import Stage, crash_stage
from support.crash.moments import point_of
from support.peers.archives import study

from pipeline.model import OrderState
from pipeline.orders import view
from pipeline.sending.send import send
from pipeline.site.settings import load

pytestmark = pytest.mark.programs

SHARES = 12  # orders; the worker is killed at every twelfth point of each, so at early and at late ones


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with crash_stage(tmp_path_factory.mktemp("crash-orders")) as one:
        yield one


def placed(stage: Stage, accession: str, folder: Path) -> tuple[int, list[Path]]:
    files = study(folder, accession, series=2, instances=2)
    stage.archive.store(*files)
    return stage.place(accession), files


@pytest.fixture(scope="module")
def points(stage, tmp_path_factory) -> list[str]:
    """Every crash point a worker reaches from its start to the end of an order, in order."""
    folder = tmp_path_factory.mktemp("recorded")
    number, _ = placed(stage, "RECORDED", folder)
    stage.work_until_ended(number, record=str(folder / "points"))
    reached = situations(folder / "points")
    return reached[: reached.index(point_of("order-ended")) + 1]


def test_an_order_passes_the_points_of_every_step(points):
    """A guard for the tests below: they are as good as the list they go through."""
    steps = {point.split()[-1].rpartition(".")[0] for point in points}
    of_orders = {
        f"orders.{one}" for one in ("find_studies", "retrieve_study", "retrieval", "consign_order", "finish")
    }
    assert steps >= of_orders | {"line.admit", "line.deliver"}
    assert len(points) >= 50


@pytest.mark.parametrize("share", range(SHARES))
def test_a_worker_killed_at_every_point_of_an_order_goes_on_with_it(share, stage, points, tmp_path):
    number, files = placed(stage, f"K{share}", tmp_path / "all")
    passed_by = [point for point in points[share::SHARES] if not stage.died(number, point)]
    is_delivered_once(stage, number, files)
    for position, point in enumerate(passed_by):  # what a restart does in another way than the first start
        number, files = placed(stage, f"K{share}-{position}", tmp_path / str(position))
        stage.killed("work", point=point)
        is_delivered_once(stage, number, files)


def is_delivered_once(stage: Stage, number: int, files: list[Path]) -> None:
    ended = stage.work_until_ended(number)
    assert (ended.state, ended.expected, ended.received, ended.sent) == (OrderState.DONE, 4, 4, 4), stage.text()
    assert stage.sent(number) == [("stored", True)] * 4
    assert {str(pydicom.dcmread(file).SOPInstanceUID) for file in files} <= stage.on_the_shelf()
    assert not [left for left in (stage.folder / "spool/run").iterdir() if left.name.startswith("query-")]


def test_a_command_killed_while_it_places_has_placed_nothing(stage):
    stage.killed("retrieve", "PLACING", "--to", "shelf", point="order-placing")
    with stage.ledger() as ledger, ledger.reading() as look:
        numbers = [
            number for number in range(1, 200) if (one := view(look, number)) and "PLACING" in one.accessions
        ]
    assert not numbers


@pytest.mark.parametrize("point", ["send-copied", "send-admitted"])
def test_files_a_dead_send_had_copied_go_their_way(stage, point, tmp_path):
    files = study(tmp_path, "SENT", instances=2)
    stage.killed("send", *map(str, files), "--to", "shelf", point=point)
    with stage.ledger() as ledger, ledger.reading() as look:
        number = max(number for number in range(1, 200) if view(look, number))
    ended = stage.work_until_ended(number)
    assert (ended.verb, ended.state, ended.sent) == ("send", OrderState.DONE, 2)


@pytest.mark.parametrize("point", ["taken-in", "order-consigning", "order-consigned"])
def test_a_worker_killed_in_the_middle_of_a_send_sends_it_all_the_same(stage, point, tmp_path):
    files = study(tmp_path, "SENT", instances=2)
    with stage.ledger() as ledger:
        number = send(ledger, load(stage.file), files, "shelf").order_id
    stage.killed("work", point=point)
    ended = stage.work_until_ended(number)
    assert (ended.state, ended.sent, ended.sent_before) == (OrderState.DONE, 2, 0), stage.text()
    assert {str(pydicom.dcmread(file).SOPInstanceUID) for file in files} <= stage.on_the_shelf()
