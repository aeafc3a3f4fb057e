"""While an order is open, what its steps need is there before they are due."""

from support.sites.line_site import NULL, rounds, working
from support.sites.placed_orders import look, order, settings_with_pacs, waiting_order

from pipeline.destinations.iso import IsoDestination
from pipeline.destinations.null import NullDestination
from pipeline.ledger import orders
from pipeline.ledger.tables import delivery
from pipeline.model import OrderStage, OrderState
from pipeline.orders.finish import end
from pipeline.orders.scheduler import OrderScheduler
from pipeline.processes.jobs import Jobs


def test_the_destination_of_an_order_is_made_ready_at_once_and_no_other(tmp_path, monkeypatch):
    ready: list[str] = []
    monkeypatch.setattr(NullDestination, "be_ready", lambda destination: ready.append(destination.name))
    other = {"name": "other", "kind": "null"}
    with working(settings_with_pacs(tmp_path, destinations=(NULL, other))) as (site, worker):
        order(site, "A1")
        rounds(worker, until=lambda: bool(ready))
        assert ready == ["nowhere"]


def test_an_order_that_comes_while_another_is_open_has_its_destination_made_ready_too_and_each_only_once(
    tmp_path, monkeypatch
):
    ready: list[str] = []
    monkeypatch.setattr(NullDestination, "be_ready", lambda destination: ready.append(destination.name))
    monkeypatch.setattr(OrderScheduler, "_take_due_steps", lambda *_: None)  # so that the orders stay open
    other = {"name": "other", "kind": "null"}
    with working(settings_with_pacs(tmp_path, destinations=(NULL, other))) as (site, _):
        scheduler = OrderScheduler(site, Jobs(lambda: None), {})
        order(site, "A1")
        scheduler.look()
        order(site, "A2", destination="other")
        for _ in range(3):
            scheduler.look()
        scheduler._steps.shutdown()  # waits for what was submitted
    assert sorted(ready) == ["nowhere", "other"]


def test_the_destination_of_the_links_is_made_ready_before_the_first_order_and_no_other(tmp_path, monkeypatch):
    ready: list[str] = []
    monkeypatch.setattr(IsoDestination, "be_ready", lambda destination: ready.append(destination.name))
    discs = [{"name": name, "kind": "iso", "folder": str(tmp_path)} for name in ("disc", "other")]
    with working(settings_with_pacs(tmp_path, destinations=(NULL, *discs), shim={"download": "disc"})) as (
        site,
        _,
    ):
        scheduler = OrderScheduler(site, Jobs(lambda: None), {})
        scheduler.open()
        scheduler._steps.shutdown()  # waits for what was submitted
    assert ready == ["disc"]


def be_delivering(site, number: int, state: str) -> None:
    """Give an order a delivery in this state, and the stage in which it waits for the end of it."""
    with site.ledger.transaction() as connection:
        row = {"destination": "nowhere", "receiver": "", "study_instance_uid": "1.2.3", "order_id": number}
        row |= {"state": state, "created_at": 0.0, "due_at": 0.0}
        connection.execute(delivery.insert().values(**row))
        orders.set_stage(connection, number, OrderStage.DELIVERING)


def test_an_order_whose_delivery_has_ended_ends_without_waiting_for_the_loop(tmp_path):
    with working(settings_with_pacs(tmp_path)) as (site, _):
        scheduler = OrderScheduler(site, Jobs(lambda: None), {})
        number, _ = waiting_order(site)
        be_delivering(site, number, "delivered")
        scheduler.look_at(number)
        assert look(site, number).ended_at
        scheduler.look_at(number)  # it has ended: nothing is due
        scheduler.look_at(77)  # there is none


def test_the_line_has_an_order_looked_at_once_its_delivery_was_attempted(tmp_path, monkeypatch):
    looked: list[int] = []
    monkeypatch.setattr(OrderScheduler, "look_at", lambda _, number: looked.append(number))
    with working(settings_with_pacs(tmp_path)) as (site, worker):
        number, _ = waiting_order(site)
        be_delivering(site, number, "waiting")
        rounds(worker, until=lambda: bool(looked))
    assert looked == [number]


def test_the_destinations_that_open_orders_await_are_known_until_they_have_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(OrderScheduler, "_take_due_steps", lambda *_: None)  # so that the order stays open
    with working(settings_with_pacs(tmp_path)) as (site, _):
        scheduler = OrderScheduler(site, Jobs(lambda: None), {})
        number = order(site, "A1").order_id
        scheduler.look()
        assert site.awaited == {"nowhere"}
        end(number, OrderState.FAILED, site)
        scheduler.look()
        assert site.awaited == set()
        scheduler.close()


class _Steps:
    """Steps of a kind of order of which a long one is due, once."""

    def __init__(self, done: list[str]) -> None:
        self.done = done

    def look_at(self, *_) -> bool:
        return not self.done

    def take_long_step(self, *_) -> None:
        self.done.append("step")


def test_what_a_long_step_has_opened_is_delivered_without_waiting_for_the_loop(tmp_path):
    done: list[str] = []
    with working(settings_with_pacs(tmp_path)) as (site, _):
        order(site, "A1", verb="print")
        scheduler = OrderScheduler(
            site, Jobs(lambda: None), {"print": _Steps(done)}, lambda: done.append("filled")
        )
        scheduler.look()
        scheduler._steps.shutdown()  # waits for what was submitted
    assert done == ["step", "filled"]
