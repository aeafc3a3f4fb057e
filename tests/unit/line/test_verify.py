"""A destination is judged by attempts that asked it something, and by no other."""

import errno
import logging
import time

from pydicom.uid import generate_uid
from sqlalchemy import select
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working

from pipeline.ledger import destination_states, reports
from pipeline.ledger.tables import delivery
from pipeline.line import breaker
from pipeline.line.deliver import NOT_ATTEMPTED, DueDelivery, deliver
from pipeline.line.verify import verify
from pipeline.spool.hashed_files import HashedFiles


def test_a_trial_that_had_no_file_to_send_says_nothing_of_a_dead_destination(tmp_path, monkeypatch, caplog):
    def fails(*_about: object) -> str:
        raise OSError(errno.EIO, "Input/output error")

    caplog.set_level(logging.INFO)
    with working(settings_for(tmp_path)) as (site, worker):
        set_destination(site, paused=True)
        for _ in range(2):
            arrive(site.spool, instance(tmp_path, StudyInstanceUID=generate_uid()))
        rounds(worker, until=lambda: states(site, "deliveries") == {"waiting": 2})
        set_destination(site, paused=False, down_since=time.time() - 60, reason="connection refused")
        (nowhere,) = site.settings.destination
        with site.ledger.reading() as look:
            first, second = look.scalars(select(delivery.c.id).order_by(delivery.c.id))
        with monkeypatch.context() as patched:
            patched.setattr(HashedFiles, "sha256_of", fails)
            assert verify(deliver(DueDelivery(first, nowhere), site), site) is NOT_ATTEMPTED
        assert states(site, "deliveries") == {"deferred": 1, "waiting": 1}
        with site.ledger.reading() as look:
            noted = reports.destination_row(look, "nowhere")
            assert breaker.is_down(noted)
            assert breaker.admits(look, noted, time.time()), "the next one is the trial"
        assert "peer-up" not in caplog.text
        assert verify(deliver(DueDelivery(second, nowhere), site), site) is None
        assert "peer-up" in caplog.text
        with site.ledger.reading() as look:
            assert not breaker.is_down(reports.destination_row(look, "nowhere"))


def set_destination(site, **values) -> None:
    with site.ledger.transaction() as change:
        destination_states.change_row(change, "nowhere", **values)
