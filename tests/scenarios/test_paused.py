"""A destination that is paused while something is on its way to it keeps the reason the person gave."""

import pytest
from support.crash.moments import point_of
from support.sites.line_site import NULL, arrive, instance, rounds, settings_for, states, working

from pipeline import crash_points
from pipeline.ledger import destination_states
from pipeline.operate.status import status

DEAD = {"name": "dead", "kind": "stow", "url": "http://127.0.0.1:1/rs/studies"}


@pytest.mark.parametrize(("destination", "outcome"), [(DEAD, "deferred"), (NULL, "delivered")])
def test_the_reason_of_a_pause_outlives_what_was_on_its_way(destination, outcome, tmp_path, monkeypatch):
    name, settings = destination["name"], settings_for(tmp_path, destinations=[destination])
    with working(settings) as (site, _), site.ledger.transaction() as change:
        destination_states.change_row(change, name, down_since=1.0, reason="connection refused")

    def meanwhile(reached: str) -> None:
        if reached == point_of("claimed"):
            with site.ledger.transaction() as change:
                destination_states.change_row(change, name, paused=True, reason="no paper")

    with working(settings) as (site, worker):
        monkeypatch.setattr(crash_points, "observer", meanwhile)
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "deliveries") == {outcome: 1})
        (shown,) = status(settings, site.ledger)["destinations"]
    assert (shown["state"], shown["reason"]) == ("paused", "no paper")
    assert shown["down_since"] == (1.0 if outcome == "deferred" else None)


def test_a_destination_that_answers_again_has_no_reason(tmp_path):
    settings = settings_for(tmp_path)
    with working(settings) as (site, _), site.ledger.transaction() as change:
        destination_states.change_row(change, "nowhere", down_since=1.0, reason="connection refused")
    with working(settings) as (site, worker):
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1})
        (shown,) = status(settings, site.ledger)["destinations"]
    assert (shown["state"], shown["reason"]) == ("up", None)
