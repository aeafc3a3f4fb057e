"""The shim while the ledger is damaged: the worker is started again, sets the file aside and begins another."""

import contextlib
import threading
import time

import pytest
from support.crash.moments import point_of
from support.sites.line_site import working
from support.sites.shim_site import settings_of

from pipeline import crash_points
from pipeline.dicom.accession import AccessionNumber
from pipeline.errors import Transient
from pipeline.ledger import FILE_NAME, open_ledger, orders
from pipeline.web.http_errors import HttpError
from pipeline.web.order_request import OrderRequest, Verb
from pipeline.web.order_service import OrderService

AT_ONCE = 7  # one less than may be open at once
TIMES = 5


def wish(accession: str) -> OrderRequest:
    return OrderRequest(Verb.PRINT, (AccessionNumber(accession),), "publisher")


def damage(spool) -> None:
    """Let the pages that are read first be no database's, those in the write-ahead log too."""
    for path in (spool / FILE_NAME, spool / f"{FILE_NAME}-wal"):
        if path.exists():
            with path.open("r+b") as file:
                file.write(b"\xff" * path.stat().st_size)


def begun_anew(spool) -> None:
    """Do what the worker's next start does."""
    before = len(list(spool.glob(f"{FILE_NAME}.corrupt-*")))
    ledger, was_lost = open_ledger(spool)
    ledger.close()
    assert was_lost
    assert len(list(spool.glob(f"{FILE_NAME}.corrupt-*"))) > before


@pytest.fixture(autouse=True)
def _whose_worker_is_this_test(monkeypatch):
    monkeypatch.setattr("pipeline.web.order_service.require_worker", lambda *_: None)


@pytest.fixture
def settings(tmp_path):
    found = settings_of(tmp_path)
    with working(found):
        pass
    return found


@pytest.fixture
def order_service(settings):
    with contextlib.closing(OrderService(settings)) as opened:
        yield opened


def test_after_the_ledger_was_set_aside_orders_are_placed_in_the_one_the_worker_has(settings, order_service):
    order_service.place(wish("A1"))
    damage(settings.site.spool)
    with working(settings) as (site, _):
        placed = order_service.place(wish("B2"))
        with site.ledger.reading() as look:
            (row,) = orders.open_ones(look)
    assert (row.id, row.accessions) == (placed.order_id, ("B2",))


def test_between_two_ledgers_nothing_is_placed(settings, order_service):
    path = settings.site.spool / FILE_NAME
    order_service.place(wish("A1"))
    path.rename(path.with_name("aside"))
    with pytest.raises(Transient, match="does not exist yet"):
        order_service.place(wish("A1"))
    path.touch()
    with pytest.raises(Transient, match="is empty"):
        order_service.place(wish("A1"))


def test_an_order_placed_while_the_ledger_is_set_aside_is_not_said_to_be_placed(
    settings, order_service, monkeypatch
):
    with order_service.ledger().reading():
        pass

    def meanwhile(point):
        if point == point_of("order-placing"):
            (settings.site.spool / FILE_NAME).rename(settings.site.spool / "aside")
            open_ledger(settings.site.spool)[0].close()

    monkeypatch.setattr(crash_points, "observer", meanwhile)
    with pytest.raises(Transient, match="set aside"):
        order_service.place(wish("A1"))
    monkeypatch.setattr(crash_points, "observer", lambda _: None)
    assert order_service.place(wish("A1")).is_new


def test_an_order_of_the_ledger_that_was_lost_is_not_taken_for_one_of_the_same_number(
    settings, order_service, monkeypatch
):
    monkeypatch.setattr(orders, "_first_number", lambda _: {})  # a clock that was set back can do it
    lost = order_service.place(wish("A1"))
    damage(settings.site.spool)
    begun_anew(settings.site.spool)
    with pytest.raises(HttpError, match="receiver not ready"):
        order_service.stands(lost, wish("A1"))
    other = order_service.place(wish("B2"))
    assert other == lost
    with pytest.raises(HttpError, match="receiver not ready"):
        order_service.stands(lost, wish("A1"))
    assert order_service.stands(other, wish("B2")).accessions == ("B2",)


def test_who_asks_while_the_ledger_is_exchanged_is_answered_or_told_to_ask_again(settings, order_service):
    stop, wrong, answered = threading.Event(), [], []

    def ask(number: int) -> None:
        while not stop.is_set():
            try:
                order_service.place(wish(f"A{number}"))
                answered.append(number)
            except Transient:
                time.sleep(0.001)
            except Exception as error:
                wrong.append(error)
                raise

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(AT_ONCE)]
    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [thread.join() for thread in threads])
        stack.callback(stop.set)
        for thread in threads:
            thread.start()
        for _ in range(TIMES):
            enough = len(answered) + AT_ONCE
            while len(answered) < enough:
                time.sleep(0.005)
            damage(settings.site.spool)
            begun_anew(settings.site.spool)
        enough = len(answered) + AT_ONCE
        while len(answered) < enough:
            time.sleep(0.005)
    assert not wrong
    placed = order_service.place(wish("last"))
    ledger, was_lost = open_ledger(settings.site.spool)
    with contextlib.closing(ledger), ledger.reading() as look:
        assert orders.row(look, placed.order_id).accessions == ("last",)
    assert not was_lost
