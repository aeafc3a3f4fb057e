"""Clients of the shim wait for their orders: they are told at once, and many ask the ledger no more than one."""

import asyncio
import contextlib
import time

import pytest
from support.sites.line_site import working
from support.sites.shim_site import settings_of

from pipeline.dicom.accession import AccessionNumber
from pipeline.ledger import order_queries, orders
from pipeline.model import OrderState
from pipeline.web import order_service as module
from pipeline.web.order_request import OrderRequest, Verb
from pipeline.web.order_service import OrderService

CLIENTS = 40
WISH = OrderRequest(Verb.PRINT, (AccessionNumber("A1"),), "publisher")


@pytest.fixture
def order_service(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "require_worker", lambda *_: None)
    monkeypatch.setattr(module, "LONGEST_WAIT", 600.0)  # who is not told would wait longer than this test
    settings = settings_of(tmp_path)
    with working(settings), contextlib.closing(OrderService(settings)) as opened:
        yield opened


def end(service, number):
    with service.ledger().transaction() as change:
        orders.change_row(change, number, state=OrderState.DONE, ended_at=time.time())


async def stays():
    return False


def test_everybody_who_waits_is_told_of_the_end_by_one_question_for_all(order_service, monkeypatch):
    asked, ended = [], order_queries.ended

    def counted(connection, numbers):
        asked.append(set(numbers))
        return ended(connection, numbers)

    monkeypatch.setattr(order_queries, "ended", counted)
    placed = order_service.place(WISH)

    async def wait_all():
        clients = [asyncio.ensure_future(order_service.ended(placed, WISH, stays)) for _ in range(CLIENTS)]
        while len(asked) < 3:  # noqa: ASYNC110  # the questions are asked in threads
            await asyncio.sleep(0.01)
        await asyncio.to_thread(end, order_service, placed.order_id)
        before = len(asked)
        views = await asyncio.wait_for(asyncio.gather(*clients), 60)
        return views, len(asked) - before

    views, questions = asyncio.run(wait_all())
    assert [view.state for view in views] == [OrderState.DONE] * CLIENTS
    assert all(numbers == {placed.order_id} for numbers in asked)
    assert questions <= 2  # the one that was under way, and the one that found the end


def test_nothing_is_asked_any_more_when_nobody_waits(order_service):
    placed = order_service.place(WISH)

    async def wait_one():
        waiting = asyncio.ensure_future(order_service.ended(placed, WISH, stays))
        while (looking := order_service._ends._looking) is None:  # noqa: ASYNC110  # it is no event of the product
            await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.wait_for(looking, 60)

    asyncio.run(wait_one())
