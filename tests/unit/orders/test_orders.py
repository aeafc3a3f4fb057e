"""Orders as rows: who shares one, what it shows, what arrives for it, and what goes when; no PACS is asked."""

import os
import shutil
import time

import pydicom
import pytest
from support.peers.archives import header, study, study_uid
from support.sites.line_site import NULL, arrive, instance, rounds, settings_for, states, working
from support.sites.placed_orders import arrive_from_pacs, look, order, retrieval, settings_with_pacs, waiting_order

from pipeline.dicom.accession import AccessionNumber, InvalidAccession
from pipeline.errors import Configuration
from pipeline.ledger import destination_states, orders, reports, retrievals
from pipeline.ledger.tables import delivery
from pipeline.line.deliver import _of_order
from pipeline.model import Consignment, InstanceCode, OrderError, OrderState
from pipeline.operate.trace import trace
from pipeline.orders import cleanup, known, place
from pipeline.orders.finish import end
from pipeline.orders.scheduler import PATIENCE_SECONDS
from pipeline.receiving.sweep import sweep_abandoned
from pipeline.sending import send

# --- sharing ---------------------------------------------------------------------------------------------


def test_the_order_of_numbers_and_of_modalities_makes_no_other_wish(site):
    first = order(site, "A1", "A2", modalities=("MR", "CT"))
    assert not order(site, "A2", "A1", modalities=("CT", "MR")).is_new
    assert first.is_new


@pytest.mark.parametrize(
    "other", [{"verb": "forward"}, {"destination": "elsewhere"}, {"modalities": ("CT",)}, {"container": "zip"}]
)
def test_another_wish_is_another_order(tmp_path, other):
    destinations = (NULL, {**NULL, "name": "elsewhere"})
    with working(settings_with_pacs(tmp_path, destinations=destinations)) as (site, _):
        order(site, "A1")
        assert order(site, "A1", **other).is_new


def test_a_done_order_is_shared_for_its_time_and_no_longer(site):
    first = order(site, "A1")
    end(first.order_id, OrderState.DONE, site)
    now = time.time()
    assert order(site, "A1", now=now + 599).order_id == first.order_id
    assert order(site, "A1", now=now + 601).is_new


def test_again_shares_no_done_order_but_an_open_one(site):
    first = order(site, "A1")
    assert not order(site, "A1", again=True).is_new, "two would print twice"
    end(first.order_id, OrderState.DONE, site)
    assert order(site, "A1", again=True).is_new


def test_who_only_looks_finds_the_order_that_would_be_shared_and_makes_none(site):
    wish = {"verb": "print", "accessions": [AccessionNumber("A1")], "destination": "nowhere"}

    def found(**more):
        with site.ledger.reading() as connection:
            return known(connection, site.settings, **wish, **more)

    assert found() is None
    first = order(site, "A1").order_id
    assert (first, found(), found(container="zip")) == (1, 1, None)
    end(first, OrderState.DONE, site)
    assert (found(now=time.time() + 599), found(now=time.time() + 601)) == (1, None)


@pytest.mark.parametrize("state", [OrderState.FAILED, OrderState.PARTIAL])
def test_an_order_that_was_not_done_is_not_shared(site, state):
    first = order(site, "A1")
    end(first.order_id, state, site, OrderError.MOVE_INCOMPLETE, "37 of 42")
    assert order(site, "A1").is_new


def test_too_many_numbers_are_refused_and_so_is_a_site_without_a_pacs(site, tmp_path):
    with pytest.raises(InvalidAccession, match="more than the 20"):
        order(site, *(f"A{number}" for number in range(21)))
    numbers = [AccessionNumber("A1")]
    with pytest.raises(Configuration, match=r"no \[pacs\]"):
        place(site.ledger, settings_for(tmp_path), verb="print", accessions=numbers, destination="nowhere")


def test_an_end_is_the_end(site):
    number = order(site, "A1").order_id
    end(number, OrderState.FAILED, site, OrderError.NO_DATA, "first")
    end(number, OrderState.DONE, site)
    assert (look(site, number).state, look(site, number).detail) == (OrderState.FAILED, "first")


def test_a_view_is_json_and_says_the_words_of_the_interface(site):
    number = order(site, "A1").order_id
    end(number, OrderState.FAILED, site, OrderError.PACS_UNREACHABLE, "why")
    table = look(site, number).as_json()
    assert (table["error"], table["error_kind"], table["state"]) == (
        "PACS unreachable",
        "pacs-unreachable",
        "failed",
    )
    assert look(site, number + 1) is None


# --- what arrives ----------------------------------------------------------------------------------------


def held(site, number: int) -> int:
    with site.ledger.reading() as connection:
        return len(retrievals.came(connection, number))


def is_taken_in(site, count: int):
    return lambda: sum(states(site, "instances").values()) == count


def test_what_nobody_ordered_is_unclaimed_and_settles(site, worker, tmp_path):
    name = arrive_from_pacs(site, instance(tmp_path))
    rounds(worker, until=lambda: states(site, "arrivals") == {"settled": 1})
    with site.ledger.reading() as connection:
        assert reports.arrival_row(connection, name).reason == "unclaimed"
        (row,) = reports.instances_of(connection, name)
        assert (row.reason, row.code) == ("unclaimed", InstanceCode.UNCLAIMED)
    assert states(site, "deliveries") == {}


def test_what_comes_for_a_retrieval_is_its_own_and_conflicts_with_nothing(site, worker, tmp_path):
    file = instance(tmp_path, AccessionNumber="A1")
    uid = pydicom.dcmread(file).StudyInstanceUID
    other = pydicom.dcmread(file)
    other.PatientComments = "the archive has changed it since"
    other.save_as(tmp_path / "other")
    arrive(site.spool, file)
    rounds(worker, until=is_taken_in(site, 1))
    number = retrieval(site, uid)
    arrive_from_pacs(site, tmp_path / "other")
    rounds(worker, until=is_taken_in(site, 2))
    assert states(site, "instances") == {"passed": 2}
    assert held(site, number) == 1


def test_what_was_received_before_a_retrieval_began_is_not_its_own(site, worker, tmp_path):
    file = instance(tmp_path)
    number = retrieval(site, pydicom.dcmread(file).StudyInstanceUID)
    arrive_from_pacs(site, file, age=7200)
    rounds(worker, until=is_taken_in(site, 1))
    assert held(site, number) == 0


def test_one_arrival_may_hold_what_several_retrievals_wait_for(site, worker, tmp_path):
    (ct,) = study(tmp_path / "a", "A1", instances=1)
    mr = study(tmp_path / "b", "A1", instances=2, modalities=("MR",), uid=study_uid([ct]))
    uid = study_uid([ct])
    everything = retrieval(site, uid)
    only_mr = retrieval(site, uid, modalities=("MR",), series=[header(mr[0]).SeriesInstanceUID])
    arrive_from_pacs(site, ct, *mr)
    rounds(worker, until=is_taken_in(site, 3))
    assert (held(site, everything), held(site, only_mr)) == (3, 2)


def test_what_was_asked_for_by_its_series_counts_whatever_modality_it_names_itself(site, worker, tmp_path):
    files = study(tmp_path / "a", "A1", instances=2, modalities=("OT", "CT"), series=2)
    asked = header(files[0]).SeriesInstanceUID
    number = retrieval(site, study_uid(files), modalities=("CT",), series=[asked])
    arrive_from_pacs(site, *files)
    rounds(worker, until=is_taken_in(site, 4))
    with site.ledger.reading() as connection:
        assert {series for series, _ in retrievals.held(connection, number)} == {asked}
    assert held(site, number) == 2


def test_what_others_send_to_the_receiver_of_orders_belongs_to_no_retrieval(site, worker, tmp_path):
    file = instance(tmp_path)
    uid = pydicom.dcmread(file).StudyInstanceUID
    number = retrieval(site, uid)
    arrive(site.spool, file, receiver="cdrecord", peer="10.9.9.9")
    arrive(site.spool, instance(tmp_path, "b", StudyInstanceUID=uid), receiver="cdrecord")
    rounds(worker, until=is_taken_in(site, 2))
    assert held(site, number) == 0
    with site.ledger.reading() as connection:
        found = retrievals.from_strangers(connection, uid, 0.0)
    assert found == {("PACS", "10.9.9.9"): 1, ("CLUNIE1", None): 1}, "the second has lost its envelope in a crash"


def test_the_same_instance_sent_twice_by_one_retrieval_is_one(site, worker, tmp_path):
    file = instance(tmp_path)
    number = retrieval(site, pydicom.dcmread(file).StudyInstanceUID)
    arrive_from_pacs(site, file, file)
    rounds(worker, until=is_taken_in(site, 2))
    assert states(site, "instances") == {"passed": 1, "duplicate": 1}
    assert held(site, number) == 1


# --- what a site cannot do now ---------------------------------------------------------------------------


def test_a_pacs_out_of_reach_ends_the_order_with_the_reason(site, worker):
    number = order(site, "A1").order_id
    rounds(worker, until=lambda: look(site, number).ended_at)
    ended = look(site, number)
    assert (ended.state, ended.error_kind) == (OrderState.FAILED, OrderError.PACS_UNREACHABLE)
    assert "Connection refused" in ended.detail
    assert not [left for left in site.spool.run.iterdir() if left.is_dir()]


def test_a_receiver_that_does_not_run_is_waited_for_and_then_said(site, worker):
    number, move = waiting_order(site)
    worker.round()
    assert look(site, number).stage == "queued"
    worker._orders._began -= PATIENCE_SECONDS + 1
    with site.ledger.transaction() as change:
        retrievals.change_row(change, move, created_at=0.0)
    rounds(worker, until=lambda: look(site, number).ended_at)
    assert look(site, number).error_kind == OrderError.RECEIVER_NOT_READY


def test_an_order_runs_out_of_time_but_not_while_nobody_worked(tmp_path):
    with working(settings_with_pacs(tmp_path, shim={"order_timeout": "1h"})) as (site, worker):
        number, _ = waiting_order(site)
        with site.ledger.transaction() as change:
            orders.change_row(change, number, created_at=0.0)
        worker.round()
        assert look(site, number).state == OrderState.OPEN, "the worker has only just started"
        worker._orders._began -= 3601
        rounds(worker, until=lambda: look(site, number).ended_at)
        assert look(site, number).error_kind == OrderError.MOVE_TIMED_OUT


def test_an_order_that_ran_out_of_time_is_not_delivered_afterwards(tmp_path):
    with working(settings_with_pacs(tmp_path)) as (site, worker):
        number, _ = waiting_order(site)
        with site.ledger.transaction() as change:
            destination_states.change_row(change, "nowhere", paused=True, reason="no paper")
            row = {"destination": "nowhere", "receiver": "", "study_instance_uid": "1.2.3", "order_id": number}
            change.execute(delivery.insert().values(**row, state="waiting", created_at=0.0, due_at=0.0))
            orders.change_row(change, number, stage="delivering", created_at=0.0)
        worker._orders._began = 0.0
        rounds(worker, until=lambda: look(site, number).ended_at)
        assert states(site, "deliveries") == {"refused": 1}
        assert look(site, number).error_kind == OrderError.RELAY_FAILED


# --- what is kept ----------------------------------------------------------------------------------------


def test_what_orders_brought_goes_after_its_own_time_although_nobody_took_it(tmp_path):
    with working(settings_with_pacs(tmp_path, keep_results="1h", keep_originals="7d")) as (site, worker):
        arrive(site.spool, instance(tmp_path, "pushed"))
        name = arrive_from_pacs(site, instance(tmp_path, "unasked"))
        rounds(worker, until=lambda: states(site, "arrivals") == {"settled": 2})
        cleanup.expire(site, time.time() + 1800)
        assert (site.spool.settled / name).is_dir()
        cleanup.expire(site, time.time() + 7200)
        assert [one.name for one in site.spool.settled.iterdir()] != [name]
        assert len(list(site.spool.settled.iterdir())) == 1


def test_what_an_open_order_needs_does_not_go(tmp_path):
    with working(settings_with_pacs(tmp_path, keep_results="1h")) as (site, worker):
        file = instance(tmp_path)
        uid = str(pydicom.dcmread(file).StudyInstanceUID)
        name = arrive_from_pacs(site, file)
        rounds(worker, until=lambda: states(site, "arrivals") == {"settled": 1})
        number, move = waiting_order(site, uid)
        with site.ledger.transaction() as change:
            retrievals.add(change, move, [row.id for row in retrievals.kept(change, uid)])
        cleanup.expire(site, time.time() + 7200)
        assert (site.spool.settled / name).is_dir()
        assert trace(uid, site.ledger)["studies"][0]["instances"][0]["reason"] is None, "claimed by now"
        end(number, OrderState.DONE, site)
        cleanup.expire(site, time.time() + 7200)
        assert not (site.spool.settled / name).exists()


def test_a_file_that_was_made_goes_with_its_order_unless_a_later_one_has_made_it_anew(tmp_path):
    with working(settings_with_pacs(tmp_path, keep_results="1h")) as (site, _):
        made = tmp_path / "A1.iso"
        made.write_bytes(b"disc")
        numbers = []
        for _ in range(2):
            number = order(site, "A1", again=True).order_id
            with site.ledger.transaction() as change:
                row = {"destination": "nowhere", "receiver": "", "study_instance_uid": "1.2.3", "order_id": number}
                row |= {"state": "delivered", "created_at": 0.0, "due_at": 0.0}
                change.execute(delivery.insert().values(**row, made_path=str(made), made_size=4))
            end(number, OrderState.DONE, site)
            numbers.append(number)
        assert look(site, numbers[0]).result.name == "A1.iso"
        with site.ledger.transaction() as change:
            orders.change_row(change, numbers[0], ended_at=time.time() - 7200)
        cleanup.expire(site, time.time())
        assert made.exists()
        assert look(site, numbers[0]).result is None
        with site.ledger.transaction() as change:
            orders.change_row(change, numbers[1], ended_at=time.time() - 7200)
        cleanup.expire(site, time.time())
        assert not made.exists()


def test_what_a_dead_send_left_goes_too(tmp_path):
    with working(settings_with_pacs(tmp_path, keep_results="1h")) as (site, _):
        incoming = site.spool.prepare_receiver("_send")
        long_ago = (time.time() - 7200,) * 2
        dead, copies = incoming / ".C_1_1", incoming / ".C_2_2"
        for folder in (dead, copies):
            folder.mkdir()
            os.utime(shutil.copy(instance(tmp_path), folder / "00000"), long_ago)
        (copies / "00001").touch()
        for folder in (dead, copies):
            os.utime(folder, long_ago)
        assert sweep_abandoned(site.spool, "_send") == []
        send.expire(site, time.time())
        assert [left.name for left in incoming.iterdir()] == [".C_2_2"], "which still grows"
        scratch = site.spool.run / "query-left"
        scratch.mkdir()
        cleanup.drop_scratch(site)
        assert not scratch.exists()


def test_what_makes_a_file_of_an_order_is_told_what_was_not_asked_for_and_what_was_not_found(site):
    number = order(site, "A1", "A2", modalities=("MR", "CT")).order_id
    with site.ledger.transaction() as change:
        orders.change_row(change, number, missing=["A2"])
    about = _of_order(Consignment(1, "1.2.3", ()), number, site).about
    assert about is not None
    assert (about.accessions, about.missing, about.modalities) == (("A1",), ("A2",), ("CT", "MR"))
