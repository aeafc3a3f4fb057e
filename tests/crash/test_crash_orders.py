"""SIGKILL at every named point of an order, then a restart: it is done, once, with everything asked for."""

import pydicom
import pytest
from support.crash.crash_stage import crash_stage
from support.peers.archives import study

from pipeline.model import OrderState
from pipeline.orders import view
from pipeline.orders.send import send
from pipeline.site.settings import load

pytestmark = pytest.mark.programs

OF_AN_ORDER = (
    "order-found",
    "order-attached",
    "order-listed",
    "order-queued",
    "retrieval-started",
    "retrieval-sent",
    "retrieval-finished",
    "retrieval-ended",
    "order-prepared",
    "order-consigning",
    "order-consigned",
    "order-ended",
)


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    with crash_stage(tmp_path_factory.mktemp("crash-orders")) as one:
        yield one


@pytest.mark.parametrize("point", OF_AN_ORDER)
def test_a_worker_killed_in_the_middle_of_an_order_goes_on_with_it(stage, point, tmp_path):
    accession = f"K{OF_AN_ORDER.index(point)}"
    files = study(tmp_path, accession, series=2, instances=2)
    stage.archive.store(*files)
    number = stage.place(accession)
    stage.killed("work", point=point)
    ended = stage.work_until_ended(number)
    assert (ended.state, ended.expected, ended.received, ended.sent) == (OrderState.DONE, 4, 4, 4), stage.text()
    assert stage.sent(number) == [("stored", True)] * 4
    assert {str(pydicom.dcmread(file).SOPInstanceUID) for file in files} <= stage.on_the_shelf()
    assert not [left for left in (stage.folder / "spool/run").iterdir() if left.name.startswith("query-")]


def test_a_command_killed_while_it_places_has_placed_nothing(stage):
    stage.killed("retrieve", "PLACING", "--to", "shelf", point="order-placing")
    with stage.ledger() as ledger, ledger.reading() as look:
        numbers = [
            number for number in range(1, 40) if (one := view(look, number)) and "PLACING" in one.accessions
        ]
    assert not numbers


@pytest.mark.parametrize("point", ["send-copied", "send-admitted"])
def test_files_a_dead_send_had_copied_go_their_way(stage, point, tmp_path):
    files = study(tmp_path, "SENT", instances=2)
    stage.killed("send", *map(str, files), "--to", "shelf", point=point)
    with stage.ledger() as ledger, ledger.reading() as look:
        number = max(number for number in range(1, 60) if view(look, number))
    ended = stage.work_until_ended(number)
    assert (ended.verb, ended.state, ended.sent) == ("send", OrderState.DONE, 2)


@pytest.mark.parametrize("point", ["order-prepared", "order-consigning", "order-consigned"])
def test_a_worker_killed_in_the_middle_of_a_send_sends_it_all_the_same(stage, point, tmp_path):
    files = study(tmp_path, "SENT", instances=2)
    with stage.ledger() as ledger:
        number = send(ledger, load(stage.file), files, "shelf").order_id
    stage.killed("work", point=point)
    ended = stage.work_until_ended(number)
    assert (ended.state, ended.sent, ended.sent_before) == (OrderState.DONE, 2, 0), stage.text()
    assert {str(pydicom.dcmread(file).SOPInstanceUID) for file in files} <= stage.on_the_shelf()
