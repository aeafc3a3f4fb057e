"""A destination gets as many deliveries at once as it has slots, and is back only once it was asked something."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event

from pydicom.uid import generate_uid
from sqlalchemy import select, update
from support.machine.dicom_programs import wait_until
from support.sites.line_site import NULL, RECEIVER, arrive, instance, rounds, settings_for, states

from pipeline.ledger import deliveries, destination_states
from pipeline.ledger.tables import delivery
from pipeline.line import line
from pipeline.line.deliver import NOT_ATTEMPTED, deliver
from pipeline.line.delivery_scheduler import DeliveryScheduler
from pipeline.model import DeliveryState
from pipeline.processes.jobs import JobKey, Jobs
from pipeline.schedule import Agenda
from pipeline.site.open_site import opened
from pipeline.site.site import Site
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
                return destination_states.down_since(connection, "nowhere") is not None

        monkeypatch.setattr(line, "deliver", held_meanwhile)
        with site.ledger.transaction() as connection:
            destination_states.change_row(connection, "nowhere", down_since=time.time() - 60)
        worker = Worker(site)
        arrive(site.spool, instance(tmp_path))
        rounds(worker, until=lambda: held)
        assert is_down()
        hold(is_held=False)  # the next one is the trial
        rounds(worker, until=lambda: states(site, "deliveries") == {"delivered": 1})
        assert not is_down()


def test_a_slot_that_has_ended_a_delivery_starts_the_next_one_without_the_loop(tmp_path, monkeypatch):
    with opened(settings_for(tmp_path)) as site:
        attempted, at_once, most = [], [], []

        def noted(due, site):
            at_once.append(due.number)
            most.append(len(at_once))
            attempted.append(due.number)
            try:
                return deliver(due, site)
            finally:
                at_once.remove(due.number)

        worker = Worker(site)
        set_paused(site, is_paused=True)
        for _ in range(4):
            arrive(site.spool, instance(tmp_path, StudyInstanceUID=generate_uid()))
        rounds(worker, until=lambda: states(site, "deliveries") == {"waiting": 4})
        monkeypatch.setattr(line, "deliver", noted)
        set_paused(site, is_paused=False)
        worker.round()
        wait_until(lambda: states(site, "deliveries") == {"delivered": 4}, what="all four, after a single round")
        assert attempted == [1, 2, 3, 4]
        assert most == [1, 1, 1, 1]


def test_a_slot_starts_no_more_once_the_destination_is_paused(tmp_path, monkeypatch):
    with opened(settings_for(tmp_path)) as site:

        def paused_meanwhile(due, site):
            set_paused(site, is_paused=True)
            return deliver(due, site)

        worker = Worker(site)
        set_paused(site, is_paused=True)
        for _ in range(2):
            arrive(site.spool, instance(tmp_path, StudyInstanceUID=generate_uid()))
        rounds(worker, until=lambda: states(site, "deliveries") == {"waiting": 2})
        monkeypatch.setattr(line, "deliver", paused_meanwhile)
        set_paused(site, is_paused=False)
        rounds(worker, until=lambda: "delivered" in states(site, "deliveries"))
        assert states(site, "deliveries") == {"delivered": 1, "waiting": 1}


class EndsAndBeginsAgain(Jobs):
    """The table of jobs, where at one look the delivery has ended, and at the next has begun again."""

    sees_nothing = False

    def running(self) -> set[JobKey]:
        if self.sees_nothing:
            self.sees_nothing = False
            return set()
        return super().running()


def test_an_attempt_that_began_while_lost_ones_are_looked_for_keeps_its_claim(tmp_path):
    claimed, may_end = Event(), Event()
    with waiting_for(1, tmp_path) as site:

        def attempt(due):
            with site.ledger.transaction() as connection:
                deliveries.claim(connection, due.number, time.time(), site.claimant, slots=1)
            claimed.set()
            may_end.wait(60)
            return NOT_ATTEMPTED

        with scheduling(site, attempt, EndsAndBeginsAgain) as (look, table):
            try:
                look()
                assert claimed.wait(60)
                table.sees_nothing = True
                look()
                assert not table.sees_nothing
                with site.ledger.reading() as connection:
                    assert connection.scalars(select(delivery.c.claim)).one()
            finally:
                may_end.set()


def test_deliveries_that_fail_each_time_leave_the_slots_to_the_others(tmp_path):
    delivered = []

    def attempt(due):
        if due.number < 4:
            raise ValueError("a bug, of these alone")
        with site.ledger.transaction() as connection:
            deliveries.finish(connection, due.number, DeliveryState.DELIVERED, None)
        delivered.append(due.number)
        return NOT_ATTEMPTED

    with waiting_for(5, tmp_path) as site, scheduling(site, attempt) as (look, table):
        for _ in range(6):
            table.begin_list()
            look()
            wait_until(lambda: not table.running(), what="the end of what was begun")
        assert delivered == [4, 5]


def test_a_round_reads_no_more_of_what_is_due_than_it_can_start(tmp_path):
    with waiting_for(5, tmp_path) as site, site.ledger.reading() as connection:
        now = time.time()
        assert deliveries.due(connection, "nowhere", now, at_most=2) == [1, 2]
        every = deliveries.due(connection, "nowhere", now, at_most=2, one_a_study=True)
        assert every == [1, 2, 3, 4, 5], "those of one study are passed over afterwards"


def test_a_slot_goes_on_while_it_is_still_looked_for_what_is_due_elsewhere(tmp_path, monkeypatch):
    looks_elsewhere, may_look, may_end, attempted = Event(), Event(), Event(), []
    due = deliveries.due

    def slow(connection, name, *how, **limits):
        if name == "elsewhere":
            looks_elsewhere.set()
            may_look.wait(60)
        return due(connection, name, *how, **limits)

    def attempt(due):
        attempted.append(due.number)
        may_end.wait(60)
        with site.ledger.transaction() as connection:
            deliveries.finish(connection, due.number, DeliveryState.DELIVERED, None)

    both = [NULL, {**NULL, "name": "elsewhere"}]
    receivers = [{**RECEIVER, "to": ["nowhere"]}]
    with waiting_for(2, tmp_path, destinations=both, receivers=receivers) as site:
        monkeypatch.setattr(deliveries, "due", slow)
        with scheduling(site, attempt) as (look, _), ThreadPoolExecutor(1) as loop:
            round_of_it = loop.submit(look)
            try:
                assert looks_elsewhere.wait(60)
                may_end.set()
                wait_until(lambda: attempted == [1, 2], what="the second, which the slot starts by itself")
            finally:
                may_look.set()
                may_end.set()
            round_of_it.result(60)


@contextmanager
def scheduling(site: Site, attempt, jobs: type[Jobs] = Jobs) -> Iterator[tuple[Callable[[], None], Jobs]]:
    """Yield a round of the scheduler, and its table of jobs."""
    table = jobs(lambda: None)
    scheduler = DeliveryScheduler(site, table, Agenda())
    try:
        yield scheduler.each_due(attempt), table
    finally:
        scheduler.close()
        wait_until(lambda: not table.running(), what="the end of what was begun")


@contextmanager
def waiting_for(count: int, folder, **more) -> Iterator[Site]:
    """Have so many studies wait for the destination, which is not paused any more."""
    with opened(settings_for(folder, **more)) as site:
        worker = Worker(site)
        set_paused(site, is_paused=True)
        for _ in range(count):
            arrive(site.spool, instance(folder, StudyInstanceUID=generate_uid()))
        rounds(worker, until=lambda: states(site, "deliveries") == {"waiting": count})
        set_paused(site, is_paused=False)
        yield site


def set_paused(site, *, is_paused: bool) -> None:
    with site.ledger.transaction() as connection:
        destination_states.change_row(connection, "nowhere", paused=is_paused)
