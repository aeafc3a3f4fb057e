"""A PACS that freezes in the middle, with its association open: the order ends with what came, in its time."""

import threading
import time

import pytest
from support.machine.dicom_programs import free_port
from support.peers.archives import study
from support.peers.odd_pacs import PENDING, Move, odd_pacs
from support.sites.orders_site import orders_site

from pipeline.model import OrderError, OrderState

pytestmark = pytest.mark.programs

SHIM = {"move_timeout": "4s", "order_timeout": "60s"}
SOON = 50.0  # Seconds: the PACS is frozen for longer, and the order would end otherwise after order_timeout.


@pytest.fixture
def is_over() -> threading.Event:
    """Return what ends the freezing, for which the site would wait when it is stopped."""
    return threading.Event()


@pytest.mark.parametrize("mode", ["association", "study"])
def test_an_order_ends_by_move_timeout_although_the_association_is_still_open(tmp_path, mode, is_over):
    port = free_port()
    with (
        odd_pacs(port) as pacs,
        orders_site(tmp_path / "site", pacs.archive(), port, shim=SHIM, receiver={"mode": mode}) as site,
    ):
        pacs.hold(*study(tmp_path / "held", "FROZEN"))

        def freeze(move: Move) -> None:
            move.respond(PENDING, remaining=1, completed=2)
            move.freeze(move.wanted[:2], is_over)

        pacs.move = freeze
        began = time.monotonic()
        view = site.order("FROZEN", incomplete_allowed=mode == "association")
        assert time.monotonic() - began < SOON
        is_over.set()
        assert (view.state, view.error_kind) == (OrderState.PARTIAL, OrderError.MOVE_TIMED_OUT)
        if mode == "association":
            assert (view.received, view.sent) == (2, 2), "what came is there, and was allowed to go"


def test_a_pacs_that_freezes_after_the_last_instance_has_sent_everything(tmp_path, is_over):
    port = free_port()
    with odd_pacs(port) as pacs, orders_site(tmp_path / "site", pacs.archive(), port, shim=SHIM) as site:
        pacs.hold(*study(tmp_path / "held", "FROZEN"))
        pacs.move = lambda move: move.freeze(move.wanted, is_over)
        began = time.monotonic()
        view = site.order("FROZEN")
        assert time.monotonic() - began < SOON
        is_over.set()
        assert (view.state, view.received, view.sent) == (OrderState.DONE, 3, 3)
