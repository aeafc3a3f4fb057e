"""While an order is open, what its steps need is there before they are due."""

from support.sites.line_site import NULL, rounds, working
from support.sites.placed_orders import order, settings_with_pacs

from pipeline.destinations.null import NullDestination


def test_the_destination_of_an_order_is_made_ready_at_once_and_no_other(tmp_path, monkeypatch):
    ready: list[str] = []
    monkeypatch.setattr(NullDestination, "be_ready", lambda destination: ready.append(destination.name))
    other = {"name": "other", "kind": "null"}
    with working(settings_with_pacs(tmp_path, destinations=(NULL, other))) as (site, worker):
        order(site, "A1")
        rounds(worker, until=lambda: bool(ready))
        assert ready == ["nowhere"]
