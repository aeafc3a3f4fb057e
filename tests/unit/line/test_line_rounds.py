"""What a round between two whole ones asks the ledger of the rooms."""

import pytest
from support.sites.line_site import RECEIVER, arrive, instance, rounds, settings_for, states, working

from pipeline.ledger import arrivals
from pipeline.model import ArrivalState

SLOW = {**RECEIVER, "quiet_seconds": 600}  # Nothing of it becomes due meanwhile.


@pytest.fixture
def asked(monkeypatch):
    """The names for which each look has asked the ledger."""
    names, original = [], arrivals.states_of

    def noted(connection, wanted):
        names.append(set(wanted))
        return original(connection, wanted)

    monkeypatch.setattr(arrivals, "states_of", noted)
    return names


def test_a_round_asks_again_for_identified_arrivals_only_if_it_is_whole(tmp_path, asked):
    with working(settings_for(tmp_path, receivers=[SLOW])) as (site, worker):
        old = arrive(site.spool, instance(tmp_path, "a"), age=0.0)
        rounds(worker, until=lambda: states(site, "arrivals") == {"processing": 1})
        new = arrive(site.spool, instance(tmp_path, "b"), age=0.0)
        worker.round()
        asked.clear()
        worker.round(is_whole=False)
        assert old not in asked[0]
        asked.clear()
        worker.round()
        assert {old, new} <= asked[0]


def test_an_arrival_that_a_person_takes_back_is_identified_again_after_the_next_whole_round(tmp_path, asked):
    with working(settings_for(tmp_path, receivers=[SLOW])) as (site, worker):
        name = arrive(site.spool, instance(tmp_path, "a"), age=0.0)
        rounds(worker, until=lambda: states(site, "arrivals") == {"processing": 1})
        worker.round()
        with site.ledger.transaction() as change:
            arrivals.forget_instances(change, name)
            arrivals.set_state(change, name, ArrivalState.ADMITTED)
        rounds(worker, until=lambda: states(site, "arrivals") == {"processing": 1})


def test_the_first_round_after_the_rooms_were_compared_asks_for_every_arrival(tmp_path, asked):
    with working(settings_for(tmp_path, receivers=[SLOW])) as (site, worker):
        name = arrive(site.spool, instance(tmp_path, "a"), age=0.0)
        rounds(worker, until=lambda: states(site, "arrivals") == {"processing": 1})
        worker.round()
        worker._line.open()
        asked.clear()
        worker.round(is_whole=False)
        assert asked[0] == {name}
