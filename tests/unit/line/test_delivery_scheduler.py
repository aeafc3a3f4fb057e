"""A destination that was down counts as back only once it has been asked something."""

import time

from sqlalchemy import update
from support.sites.line_site import arrive, instance, rounds, settings_for, states

from pipeline.ledger import deliveries
from pipeline.ledger.tables import delivery
from pipeline.line import line
from pipeline.line.deliver import deliver
from pipeline.site.open_site import opened
from pipeline.worker.worker import Worker


def test_a_delivery_that_is_held_at_the_last_moment_says_nothing_of_a_dead_destination(tmp_path, monkeypatch):
    with opened(settings_for(tmp_path)) as site:
        held = []

        def hold(*, is_held: bool) -> None:
            with site.ledger.transaction() as connection:
                connection.execute(update(delivery).values(held=is_held, due_at=time.time()))

        def held_meanwhile(due, site):
            if not held:
                held.append(due.number)
                hold(is_held=True)
            return deliver(due, site)

        def is_down() -> bool:
            with site.ledger.reading() as connection:
                return deliveries.down_since(connection, "nowhere") is not None

        monkeypatch.setattr(line, "deliver", held_meanwhile)
        with site.ledger.transaction() as connection:
            deliveries.set_destination(connection, "nowhere", down_since=time.time() - 60)
        worker = Worker(site)
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: held)
        assert is_down()
        hold(is_held=False)  # the next one is the trial
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1})
        assert not is_down()
