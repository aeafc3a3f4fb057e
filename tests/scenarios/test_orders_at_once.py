"""Orders that meet: each other at one retrieval, or what another thread writes while one of them looks."""

import time

import pydicom
import pytest
from pydicom.uid import generate_uid
from support.sites.line_site import NULL, instance, rounds, states, working
from support.sites.placed_orders import arrive_from_pacs, look, order, retrieval, settings_with_pacs, waiting_order

from pipeline.dicom.patient import Patient
from pipeline.ledger import deliveries, orders, retrievals
from pipeline.ledger.tables import delivery
from pipeline.line.admit import admit
from pipeline.line.identify_arrival import identify_arrival
from pipeline.model import OrderError, OrderStage, OrderState, RetrievalState
from pipeline.orders import consign_order, steps
from pipeline.orders import retrieval as judging


@pytest.fixture
def site_and_worker(tmp_path):
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    encoded = {"name": "encoded", "kind": "null", "encode": "j2k"}
    destinations = (encoded, {"name": "shelf", "kind": "folder", "folder": str(shelf)}, NULL)
    with working(settings_with_pacs(tmp_path, destinations=destinations)) as both:
        yield both


def open_row(site, number: int):
    with site.ledger.reading() as connection:
        return orders.row(connection, number)


# --- an instance that cannot be read any more --------------------------------------------------------------


@pytest.fixture
def half_read(site, worker, tmp_path):
    """A retrieval that has brought two instances, one of which its disk has lost since."""
    uids = {"StudyInstanceUID": generate_uid(), "SeriesInstanceUID": generate_uid()}
    move = retrieval(site, uids["StudyInstanceUID"])
    arrive_from_pacs(site, instance(tmp_path, "a", **uids), instance(tmp_path, "b", **uids))
    rounds(worker, until=lambda: sum(states(site, "instances").values()) == 2)
    broken = next(site.spool.root.rglob("CT.X.00001"))
    broken.write_bytes(broken.read_bytes()[:300])
    with site.ledger.transaction() as change:
        retrievals.change_row(change, move, state=RetrievalState.COMPLETE, status="0x0000", ended_at=time.time())
    return uids["StudyInstanceUID"], move


def order_of(site, half_read, destination: str, *, found_at: float = 0.0, **wish) -> int:
    """An order for both instances, for which all has come; its study was found at the PACS at this moment."""
    study, move = half_read
    number = order(site, "A1", destination=destination, **wish).order_id
    link = {
        "order_id": number,
        "study_instance_uid": study,
        "accession_numbers": ("A1",),
        "series": [],
        "counted": 2,
    }
    with site.ledger.transaction() as change:
        orders.enter_studies(change, [{**link, "found_at": found_at, "asked": True, "retrieval": move}])
        orders.set_stage(change, number, OrderStage.QUEUED)
    site.pacs_patients[number] = {study: (Patient(),)}
    return number


def weigh(site, *numbers: int) -> None:
    """Look at these orders while all has come."""
    now = time.time()
    for number in numbers:
        assert steps.look_at(open_row(site, number), site, now, now)


def test_what_another_order_found_unreadable_is_missing_to_this_one_too(site, worker, half_read, tmp_path):
    first, second = order_of(site, half_read, "encoded"), order_of(site, half_read, "shelf")
    weigh(site, first, second)
    steps.take_long_step(first, site)
    assert look(site, first).detail == "1 of 2 instances cannot be read; nothing was sent"
    steps.take_long_step(second, site)
    rounds(worker, until=lambda: look(site, second).ended_at)
    ended = look(site, second)
    assert not list((tmp_path / "shelf").rglob("*.dcm")), "an order that allows nothing incomplete"
    assert (ended.state, ended.error_kind, ended.sent) == (OrderState.PARTIAL, OrderError.MOVE_INCOMPLETE, 0)
    assert ended.detail == "1 of 2 instances are here and can be read"


def test_who_allows_an_incomplete_study_gets_what_can_be_read(site, worker, half_read, tmp_path):
    first = order_of(site, half_read, "encoded")
    second = order_of(site, half_read, "shelf", incomplete_allowed=True)
    weigh(site, first, second)
    steps.take_long_step(first, site)
    rounds(worker, until=lambda: look(site, second).ended_at)
    assert len(list((tmp_path / "shelf").rglob("*.dcm"))) == 1
    assert look(site, second).state == OrderState.PARTIAL


def test_what_another_order_found_unreadable_is_asked_for_again_where_this_one_asked_later(site, half_read):
    first, second = order_of(site, half_read, "encoded"), order_of(site, half_read, "shelf", found_at=time.time())
    weigh(site, first, second)
    steps.take_long_step(first, site)
    steps.take_long_step(second, site)
    row = open_row(site, second)
    assert not steps.look_at(row, site, row.created_at, row.created_at)
    with site.ledger.reading() as connection:
        assert orders.links(connection, second)[0].retrieval != half_read[1]
    assert look(site, second).state == OrderState.OPEN


def test_an_order_that_dies_over_its_end_does_not_send_the_rest(site, worker, half_read, tmp_path, monkeypatch):
    number = order_of(site, half_read, "shelf")
    weigh(site, number)
    with monkeypatch.context() as patch:
        patch.setattr(consign_order, "end_within", _killed)
        with pytest.raises(KeyboardInterrupt):
            steps.take_long_step(number, site)
    assert states(site, "instances") == {"passed": 2}, "written down with the end of the order, or not at all"
    rounds(worker, until=lambda: look(site, number).ended_at)
    assert look(site, number).detail == "1 of 2 instances cannot be read; nothing was sent"
    assert not list((tmp_path / "shelf").rglob("*.dcm"))


def _killed(*_):
    raise KeyboardInterrupt


# --- what another thread writes meanwhile ------------------------------------------------------------------


def test_an_order_ends_by_what_its_delivery_wrote_while_it_was_looked_at(site):
    number, _ = waiting_order(site)
    with site.ledger.transaction() as change:
        row = {"destination": "nowhere", "receiver": "", "study_instance_uid": "1.2.3", "order_id": number}
        change.execute(delivery.insert().values(**row, id=7, state="sending", created_at=0.0, due_at=0.0))
        orders.change_row(change, number, stage="delivering")
    before = open_row(site, number)
    with site.ledger.transaction() as change:
        deliveries.finish(change, 7, "refused", "1 of 5 instances were refused")
        orders.change_row(change, number, error_kind=OrderError.RELAY_INCOMPLETE)
    steps.look_at(before, site, time.time(), time.time())
    ended = look(site, number)
    assert (ended.state, ended.error_kind) == (OrderState.PARTIAL, OrderError.RELAY_INCOMPLETE)


def test_a_retrieval_does_not_end_over_what_is_taken_in_while_it_is_judged(site, tmp_path, monkeypatch):
    file = instance(tmp_path)
    uid = str(pydicom.dcmread(file).StudyInstanceUID)
    number, move = waiting_order(site, uid)
    long_ago = time.time() - 60
    with site.ledger.transaction() as change:
        orders.change_link(change, number, uid, counted=3)
        values = {"state": RetrievalState.RECEIVING, "started_at": long_ago - 3600, "attempts": 1}
        values |= {"finished_at": long_ago, "last_progress_at": long_ago, "status": "0x0000"}
        retrievals.change_row(change, move, **values)
    name = arrive_from_pacs(site, file)
    admit(name, site)
    is_quiet = judging._is_quiet

    def meanwhile(*what):
        identify_arrival(name, site)
        return is_quiet(*what)

    with monkeypatch.context() as patch:
        patch.setattr(judging, "_is_quiet", meanwhile)
        judging.judge(_move(site, move), site, time.time())
    assert _move(site, move).state == RetrievalState.RECEIVING
    judging.judge(_move(site, move), site, time.time() + 60)
    assert _move(site, move).detail.endswith("1 of 3 instances have come")


def _move(site, number: int):
    with site.ledger.reading() as connection:
        return retrievals.row(connection, number)
