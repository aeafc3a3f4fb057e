"""Two workers on one ledger: each piece of work is done by one, also where one is cut off or the server dies.

Both share one spool here, so that each finds the files.
"""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import select, update
from support.machine.dicom_programs import wait_until
from support.peers.storage_peer import storage_peer
from support.sites.half_workers import Gate, site_with, tried, two_workers, until_delivered
from support.sites.line_site import arrive, instance, states

from pipeline.ledger import claims, deliveries, destination_states, waiting_studies
from pipeline.ledger.tables import arrival, receipt, study_claim
from pipeline.line.admit import admit
from pipeline.line.consign import consign
from pipeline.line.deliver import DueDelivery, deliver
from pipeline.line.identify import ReadAhead
from pipeline.line.identify_arrival import identify_arrival
from pipeline.line.prepare_study import PreparedPart, prepare_study
from pipeline.line.reconcile import reconcile
from pipeline.line.verify import verify
from pipeline.site.site import Site


@pytest.mark.both_databases
def test_each_delivery_is_attempted_by_one_and_never_more_than_the_destination_takes(tmp_path):
    gate = Gate()
    with (
        storage_peer(answer=gate) as peer,
        site_with(12, tmp_path, peer, slots=2) as site,
        two_workers(site) as (a, b),
    ):
        b.round()
        wait_until(lambda: gate.inside == 2, what="two at the peer")
        for _ in range(3):
            a.round()
        assert not a.jobs.running(), "both slots are taken by the other worker"
        assert len(peer.received) == 2
        gate.open()
        until_delivered(site, 12, a, b)
        assert gate.most == 2
        assert Counter(peer.uids).most_common(1)[0][1] == 1
        assert len(peer.uids) == 12
        assert Counter(number for number, _ in tried(site)).most_common(1)[0][1] == 1
        assert Counter(node for _, node in tried(site))["node-b"] >= 2


@pytest.mark.both_databases
def test_a_destination_that_was_down_is_tried_by_one_worker(tmp_path):
    gate = Gate()
    with (
        storage_peer(answer=gate) as peer,
        site_with(6, tmp_path, peer, slots=4) as site,
        two_workers(site) as (a, b),
    ):
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "pacs", down_since=1.0, reason="connection refused")
        workers = (a, b)
        for _ in range(5):
            for worker in workers:
                worker.round()
        wait_until(lambda: gate.inside == 1, what="the trial")
        for worker in workers:
            wait_until(lambda w=worker: len(w.jobs.running()) <= 1, what="only the trial runs")
            worker.round()
        with site.ledger.reading() as look:
            assert deliveries.in_hand(look, "pacs") == 1
        assert gate.most == 1, "at any time, not only now"
        gate.open()
        until_delivered(site, 6, a, b)
        with site.ledger.reading() as look:
            assert destination_states.down_since(look, "pacs") is None


@pytest.mark.both_databases
def test_a_worker_whose_delivery_was_taken_over_records_nothing_and_says_so(tmp_path, caplog):
    gate = Gate()
    with (
        storage_peer(answer=lambda one: gate(one) if one.number == 1 else 0) as peer,
        site_with(1, tmp_path, peer) as site,
        two_workers(site) as (a, b),
    ):
        a.round()
        wait_until(lambda: gate.inside == 1, what="the first at the peer")
        with site.ledger.transaction() as change:
            (number,) = deliveries.sending(change, "a")
            deliveries.resume(change, [number], 0.0)
        (pacs,) = site.settings.destination
        verify(deliver(DueDelivery(number, pacs), b.site), b.site)
        assert states(site, "deliveries") == {"delivered": 1}
        with site.ledger.reading() as look:
            before = look.execute(select(receipt)).all()
        gate.open()
        wait_until(lambda: not a.jobs.running(), what="the cut-off worker")
        assert "fenced what=deliver" in caplog.text
        with site.ledger.reading() as look:
            assert look.execute(select(receipt)).all() == before
        assert states(site, "deliveries") == {"delivered": 1}
        assert [node for _, node in sorted(tried(site))] == ["node-a", "node-b"]
        assert len({one.data for one in peer.received}) == 1, "the same bytes"


@pytest.mark.both_databases
def test_a_study_that_another_worker_has_consigned_meanwhile_is_not_consigned_again(tmp_path, caplog):
    with storage_peer() as peer, site_with(0, tmp_path, peer) as site, two_workers(site) as (a, b):
        study = waiting_study(site, tmp_path)
        prepared = list(prepare_study(study, a.site))

        def overtaken() -> Iterator[PreparedPart]:
            consign(prepare_study(study, b.site), b.site)
            assert not states(site, "deliveries"), "the other worker has it"
            with site.ledger.transaction() as change:
                change.execute(update(study_claim).values(worker="b", claim="taken over"))
            consign(prepare_study(study, b.site), b.site)
            yield from prepared

        consign(overtaken(), a.site)
        assert states(site, "deliveries") == {"waiting": 1}
        assert "fenced what=process" in caplog.text
        with site.ledger.reading() as look:
            assert look.execute(select(study_claim)).all() == []


def waiting_study(site: Site, folder) -> waiting_studies.WaitingStudy:
    """Return a study that was taken in and waits to be prepared."""
    name = arrive(site.spool, instance(folder, StudyInstanceUID="1.2.3"))
    admit(name, site)
    identify_arrival(name, site, ReadAhead())
    with site.ledger.reading() as look:
        (study,) = waiting_studies.waiting(look)
    return study


@pytest.mark.both_databases
def test_a_start_deletes_nothing_that_another_worker_makes_or_sends(tmp_path):
    gate = Gate()
    with (
        storage_peer(answer=gate) as peer,
        site_with(1, tmp_path, peer) as site,
        two_workers(site) as (a, b),
    ):
        study = waiting_study(site, tmp_path)
        (sent,) = (folder.name for folder in site.spool.outputs.iterdir())
        with site.ledger.transaction() as change:
            assert claims.claim_study(change, study.receiver, study.study_instance_uid, a.site.claimant)
            change.execute(update(arrival).where(arrival.c.name == sent).values(state="settled"))
        prepared = next(name for name in _names(site.spool.arrivals) if name != sent)
        a.round()
        wait_until(lambda: gate.inside == 1, what="the first at the peer")
        (site.spool.arrivals / sent).rename(site.spool.settled / sent)
        half_made = [site.spool.outputs / name / ".half-made" for name in (sent, prepared, "unknown")]
        for file in half_made:
            file.parent.mkdir(exist_ok=True)
            file.touch()
        files = [file for file in (site.spool.outputs / sent).iterdir() if not file.name.startswith(".")]
        assert files
        reconcile(b.site)
        with site.ledger.reading() as look:
            assert len(look.execute(select(study_claim)).all()) == 1, "the other one lives"
        assert [file.exists() for file in (*half_made, *files)] == [True, True, False, True]
        with site.ledger.reading() as look:
            assert deliveries.sending(look) == deliveries.sending(look, "a")
            assert len(deliveries.sending(look)) == 1
        reconcile(a.site)
        assert [file.exists() for file in half_made] == [False, False, False]
        with site.ledger.reading() as look:
            assert look.execute(select(study_claim)).all() == [], "what it had claimed before it died"
        gate.open()


def _names(room: Path) -> list[str]:
    return sorted(folder.name for folder in room.iterdir())
