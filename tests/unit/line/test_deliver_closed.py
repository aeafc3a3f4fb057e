"""What a destination has under way ends with the attempt, also where its answers cannot be recorded."""

from pydicom.uid import generate_uid
from sqlalchemy import select
from support.sites.line_site import arrive, instance, rounds, settings_for, states, working

from pipeline.errors import Transient
from pipeline.ledger import destination_states
from pipeline.ledger.tables import delivery
from pipeline.line import deliver as module
from pipeline.line.deliver import DueDelivery, deliver
from pipeline.model import Receipt, ReceiptState


def test_what_is_under_way_ends_with_an_attempt_that_cannot_be_recorded(tmp_path, monkeypatch):
    ended: list[str] = []

    def going_on(consignment, *_about):
        try:
            for item in consignment.items:
                yield Receipt(item.key, ReceiptState.STORED)
        finally:
            ended.append("sending")

    def full(*_about, **_how):
        raise Transient("the disk is full")

    with working(settings_for(tmp_path)) as (site, worker):
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "nowhere", paused=True)
        arrive(site.spool, instance(tmp_path, StudyInstanceUID=generate_uid()))
        rounds(worker, until=lambda: states(site, "deliveries") == {"waiting": 1})
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "nowhere", paused=False)
            number = change.scalar(select(delivery.c.id))
        (nowhere,) = site.settings.destination
        monkeypatch.setattr(module, "handed_over", going_on)
        monkeypatch.setattr(module, "_record", full)
        monkeypatch.setattr("pipeline.ledger.INSIST_SECONDS", 0.0)
        monkeypatch.setattr("pipeline.ledger.INSIST_PAUSE", 0.01)
        attempted = deliver(DueDelivery(number, nowhere), site)
        assert ended == ["sending"], "its error, which the attempt keeps, keeps nothing under way"
        assert isinstance(attempted.error, Transient)
