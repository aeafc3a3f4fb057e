"""A `send` whose files are taken in after its order has ended: it took longer to copy or to queue than it may."""

import pytest
from support.crash.moments import point_of
from support.sites.line_site import all_settled, instance, rounds, settings_for, states, working

from pipeline import crash_points
from pipeline.line import identify_arrival
from pipeline.line.quarantine import listed
from pipeline.model import OrderError, OrderState
from pipeline.orders.finish import end
from pipeline.sending.send import send


@pytest.fixture
def site_and_worker(tmp_path):
    with working(settings_for(tmp_path)) as both:
        yield both


def ran_out(site, number: int) -> None:
    end(number, OrderState.FAILED, site, OrderError.RELAY_FAILED, "not finished within 7200 s")


@pytest.mark.parametrize("point", ["send-placed", "send-copied", "send-admitted", "admitted", "read"])
def test_files_that_come_after_the_end_of_their_order_are_left_and_settle(
    point, site_and_worker, tmp_path, monkeypatch
):
    site, worker = site_and_worker
    broken = tmp_path / "broken"
    broken.write_bytes(b"\0" * 200)
    real = identify_arrival.contents_of

    def run_out_at(reached: str) -> None:
        if reached == point_of(point):
            ran_out(site, 1)

    def contents_of(*arguments):
        contents = real(*arguments)
        run_out_at("read")
        return contents

    monkeypatch.setattr(crash_points, "observer", run_out_at)
    monkeypatch.setattr(identify_arrival, "contents_of", contents_of)
    assert send(site.ledger, site.settings, [instance(tmp_path), broken], "nowhere").order_id == 1
    rounds(worker, until=all_settled(site))
    assert states(site, "arrivals") == {"settled": 1}
    assert states(site, "instances") == {"passed": 1, "quarantined": 1}
    assert listed(site.ledger) == {"quarantined": []}, "who gave it has it still"
    assert states(site, "deliveries") == {}


def test_files_of_an_order_that_is_in_no_ledger_any_more_are_left(site_and_worker, tmp_path, monkeypatch):
    site, worker = site_and_worker
    real = identify_arrival.orders.row
    monkeypatch.setattr(
        identify_arrival.orders, "row", lambda look, number: None if number == 1 else real(look, number)
    )
    send(site.ledger, site.settings, [instance(tmp_path)], "nowhere")
    rounds(worker, until=lambda: states(site, "instances") == {"passed": 1})
