"""The line that an arriving study takes: its stages in order, each a file of this room.

The rooms of the spool and the ledger are the truth: each stage reads from them what is due, so that the next round
finds work that was interrupted at any moment.
"""

import functools
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar

from pipeline.ledger import arrivals, orders
from pipeline.ledger.waiting_studies import WaitingStudy
from pipeline.line.admit import admit, of_others, parse_arrival_name
from pipeline.line.consign import consign
from pipeline.line.deliver import deliver
from pipeline.line.delivery_scheduler import DeliveryScheduler
from pipeline.line.gather import RoomsSeen, UnreadArrivals, at_the_door, complete_studies, look_at_rooms
from pipeline.line.hand_over import clear_left_over, stored_name
from pipeline.line.identify import ReadAhead
from pipeline.line.identify_arrival import identify_arrival
from pipeline.line.prepare_study import PreparedAhead, prepare_study
from pipeline.line.reconcile import reconcile
from pipeline.line.settle import settle
from pipeline.line.verify import verify
from pipeline.line.work_ahead import WorkAhead
from pipeline.processes.jobs import JobKey, JobKind, Jobs
from pipeline.schedule import Agenda
from pipeline.site.site import Site

AT_ONCE = 16  # Parallel arrivals, and parallel studies: the pool's processes do the work, and share it fairly.
LONG_SECONDS = 30.0  # A study that takes longer holds back no other one.

Subject = TypeVar("Subject")
Due = Iterable[tuple[JobKey, Subject, Executor]]  # What is due, and the executor for it.


class Line:
    """The line of one site. `beat` is called within long steps, so that the worker is known to live.

    `look_at_order` is called with the number of an order after an attempt at its delivery.
    """

    def __init__(
        self,
        site: Site,
        jobs: Jobs,
        agenda: Agenda,
        beat: Callable[[], None],
        look_at_order: Callable[[int], None] = lambda _: None,
    ) -> None:
        self._site = site
        self._jobs = jobs
        self._agenda = agenda
        self._beat = beat
        self._look_at_order = look_at_order
        self._seen = RoomsSeen()
        self._read_ahead = ReadAhead()
        self._unread = UnreadArrivals(self._read_ahead)
        self._prepared_ahead = PreparedAhead()
        self._begun: dict[JobKey, float] = {}  # Studies that are being prepared, and since when (monotonic).
        self._deliveries = DeliveryScheduler(site, jobs, agenda)
        self._glances = ThreadPoolExecutor(1, thread_name_prefix="glance")
        self._arrivals = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="arrival")
        self._arrivals_for_orders = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="arrival-for-order")
        self._studies = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="study")
        self._settling = ThreadPoolExecutor(1, thread_name_prefix="settle")

    def lanes_due(self) -> list[str]:
        """Return the lanes in which something may be begun now."""
        return self._deliveries.lanes_due()

    def stages(self, *, is_whole: bool = True) -> dict[str, Callable[[], None]]:
        """Return the stages by name, in the order in which a study takes them; each starts its due jobs.

        A round that is not `is_whole` does not ask again for arrivals that were identified at an earlier look:
        only a person takes that back, and then the next round is a whole one.
        """
        site, ahead = self._site, self._read_ahead
        find_new = functools.partial(self._new_arrivals, is_whole=is_whole)
        return {
            "admit": functools.partial(self._start_each, find_new, lambda name: admit(name, site, ahead)),
            "identify": functools.partial(
                self._start_each, self._admitted_arrivals, lambda name: identify_arrival(name, site, ahead)
            ),
            "gather": functools.partial(
                self._start_each,
                self._complete_studies,
                self._and_fill_slots(
                    lambda study: consign(prepare_study(study, site, self._prepared_ahead), site)
                ),
            ),
            "deliver": self._deliveries.each_due(
                lambda delivery: verify(deliver(delivery, site), site, self._look_at_order)
            ),
            "settle": functools.partial(self._start_each, self._ended_arrivals, lambda name: settle(name, site)),
        }

    def open(self) -> None:
        """Make the ledger agree with the rooms, before other work starts."""
        clear_left_over(self._site.spool, self._site.claimant.node)
        self._seen = RoomsSeen()
        reconcile(self._site, self._beat)

    def work_ahead(self) -> WorkAhead:
        """Return a context manager that reads, encodes and prepares instances while their study is incomplete."""
        return WorkAhead(self._site, self._is_being_prepared, self._read_ahead, self._prepared_ahead)

    def fill_slots(self) -> None:
        """Start the deliveries that have just become due, in the slots that are free; any thread may call this."""
        self._deliveries.fill()

    def at_the_door(self) -> list[tuple[str, str, int]]:
        """Return what was received and not handed over: receiver, Study Instance UID and number of files."""
        return list(at_the_door(self._site, self._unread))

    def close(self) -> None:
        """Start no more jobs."""
        for executor in (
            self._glances,
            self._arrivals,
            self._arrivals_for_orders,
            self._studies,
            self._settling,
        ):
            executor.shutdown(wait=False, cancel_futures=True)
        self._deliveries.close()

    def _start_each(self, find: Callable[[], Due[Subject]], do: Callable[[Subject], None]) -> None:
        """Start the job `do` for each due subject."""
        self._site.spool.require_store()
        for key, subject, executor in find():
            self._jobs.start(executor, key, functools.partial(do, subject))

    def _and_fill_slots(self, process: Callable[[WaitingStudy], None]) -> Callable[[WaitingStudy], None]:
        def both(study: WaitingStudy) -> None:
            process(study)
            self._deliveries.fill()

        return both

    def _new_arrivals(self, *, is_whole: bool) -> Due[str]:
        """Yield the arrivals that the ledger does not know yet, and the folders to be handed over to the store.

        Look at the rooms here, for identify and gather, too; if that fails, all three find nothing due.
        """
        identified = frozenset() if is_whole else self._seen.arrivals - self._seen.unidentified
        self._seen = RoomsSeen()
        self._seen = look_at_rooms(self._site, identified)
        self._unread.keep(self._seen.arrivals | self._seen.unknown)
        being_handed_over = {stored_name(name, self._site.claimant.node) for name in self._seen.unknown}
        for name in sorted(self._seen.unknown - self._seen.of_others - being_handed_over):
            yield JobKey(JobKind.ADMIT, name), name, self._executor_for(name)

    def _admitted_arrivals(self) -> Due[str]:
        """Yield the arrivals that may be identified now: arrivals of one study in the order of admission."""
        waiting = self._seen.arrivals & self._seen.unidentified
        for name in sorted(self._seen.unidentified):
            if self._unread.studies_of(name) is None:
                glance = functools.partial(self._unread.look, name, self._site)
                self._jobs.start(self._glances, JobKey(JobKind.GLANCE, name), glance)
        for name in self._unread.in_order(waiting - self._seen.of_others, self._unusable()):
            if name not in self._seen.unknown:
                yield JobKey(JobKind.IDENTIFY, name), name, self._executor_for(name)

    def _complete_studies(self) -> Due[WaitingStudy]:
        """Yield the studies that are complete as far as is known."""
        for study in complete_studies(self._seen, self._site, self._agenda, self._unread, self._unusable()):
            if self._may_take_another_study():
                key = JobKey(JobKind.PROCESS, study.study_instance_uid, study.receiver)
                self._begun.setdefault(key, time.monotonic())
                yield key, study, self._studies

    def _may_take_another_study(self) -> bool:
        """Tell whether the pool can do with another study: what this node does not claim, other nodes can.

        One more than there are processes, so that none is idle while a study is read or recorded. Without a store
        there is no other node, and every study gets its share at once.
        """
        if not self._site.spool.has_store:
            return True
        running, now = self._jobs.running(), time.monotonic()
        self._begun = {key: since for key, since in self._begun.items() if key in running}
        return sum(now - since < LONG_SECONDS for since in self._begun.values()) <= self._site.pool.size

    def _ended_arrivals(self) -> Due[str]:
        """Yield the arrivals whose deliveries have all ended, and whose files no open order needs."""
        with self._site.ledger.reading() as connection:
            ready = arrivals.ready_to_settle(connection)
            in_use = orders.arrivals_in_use(connection) if ready else set()
        in_use |= of_others(ready, self._site)
        for name in ready:
            if name not in in_use:
                yield JobKey(JobKind.SETTLE, name), name, self._settling

    def _is_being_prepared(self, receiver: str, study_instance_uid: str) -> bool:
        return JobKey(JobKind.PROCESS, study_instance_uid, receiver) in self._jobs.running_since_list()

    def _unusable(self) -> list[str]:
        """Return the arrivals whose last attempt to be admitted or identified has failed."""
        return [str(key.subject) for key in self._jobs.failed(JobKind.ADMIT, JobKind.IDENTIFY)]

    def _executor_for(self, name: str) -> Executor:
        """Return the threads for an arrival: arrivals for orders do not wait behind those of modalities."""
        _, receiver = parse_arrival_name(name)
        return self._arrivals_for_orders if self._site.is_for_orders(receiver) else self._arrivals
