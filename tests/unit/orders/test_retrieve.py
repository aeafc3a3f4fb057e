"""`storestow retrieve` looks on until its order has ended, and no longer than the order can end."""

import contextlib
import threading

import pytest
from support.sites.line_site import working
from support.sites.shim_site import settings_of

from pipeline.errors import Transient
from pipeline.ledger import FILE_NAME, Ledger, open_ledger
from pipeline.model import OrderState
from pipeline.orders import retrieve
from pipeline.orders.finish import end


def test_it_ends_with_the_order(tmp_path):
    settings, views = settings_of(tmp_path), []
    with working(settings) as (site, _):
        placed = retrieve.place(site.ledger, settings, "A1", "publisher")

        def show(view):
            views.append(view)
            end(placed.order_id, OrderState.DONE, site)

        assert retrieve.follow(site.ledger, placed, show).state == OrderState.DONE
    assert [view.state for view in views] == [OrderState.OPEN, OrderState.DONE]


def test_it_ends_when_the_ledger_is_set_aside(tmp_path):
    settings = settings_of(tmp_path)
    with working(settings):
        pass
    path = settings.site.spool / FILE_NAME
    seen, told = threading.Event(), []

    def follow() -> None:
        with contextlib.closing(Ledger(path)) as ledger:
            placed = retrieve.place(ledger, settings, "A1", "publisher")
            with pytest.raises(Transient, match="ask again"):
                retrieve.follow(ledger, placed, lambda _: seen.set())
            told.append(placed)

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    assert seen.wait(10)
    path.rename(path.with_name("aside"))
    open_ledger(settings.site.spool)[0].close()
    thread.join(10)
    assert told
