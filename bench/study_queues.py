"""Queues that studies pass one after the other, in simulated time (`forty_sites.py`).

A stage serves in the order of coming, one study for each of its servers, and takes work / rate for it; queues of
that kind need no event loop. They are harder on a gateway than the truth in two ways: nothing is done ahead while
a study comes in, and no stage overlaps another one of the same study.
"""

import heapq
import random
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

HOUR, DAY = 3600.0, 86400.0
SITES, STUDIES, INSTANCES, MEGABYTES = 40, 20_000, 8_000_000, 4_000_000  # of a day
# Percent of a day's studies that come in each hour; the busiest one is from 10 to 11.
NIGHT, MORNING, EVENING = (0.5,) * 6, (2, 6, 9.5, 11.5, 12, 11), (2, 1, 0.5, 0.5, 0.5, 0.5)
HOURS = (*NIGHT, *MORNING, 8, 9, 9.5, 8, 5.5, *EVENING, 0)
# Share of the studies, instances of a study, megabytes of an instance; scaled to the sums above.
KINDS = ((0.25, 1000, 0.53), (0.17, 600, 0.2), (0.20, 40, 1.0), (0.38, 3, 10.0))  # CT, MR, US, radiographs


@dataclass(frozen=True)
class Study:
    """What comes in: when (seconds since midnight), from which site, how much."""

    at: float
    site: int
    instances: float
    megabytes: float


@dataclass(frozen=True)
class Costs:
    """What a study costs; megabytes are those received, `share_sent` are the bytes that leave for each of them."""

    processor_seconds_a_megabyte: float
    share_sent: float
    transactions_of_a_study: float
    transactions_a_megabyte: float  # a batch of a request each
    quiet_seconds: float = 10  # as configured

    def transactions(self, study: Study) -> float:
        """Return the flushed transactions of a study."""
        return self.transactions_of_a_study + study.megabytes * self.transactions_a_megabyte


@dataclass(frozen=True)
class Stage:
    """One queue: `rate` is what one of its `servers` does a second, of the unit that `work` returns.

    `is_shared` is true if all sites share it, else each site has one of its own.
    """

    name: str
    unit: str
    work: Callable[[Study, Costs], float]
    rate: float
    servers: int = 1
    is_shared: bool = True


@dataclass
class Queue:
    """What passed a stage: by study, when it came, when it left, and how long it was worked on."""

    stage: Stage
    came: list[float] = field(default_factory=list)
    left: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    def depth(self, at: float) -> int:
        """Return how many studies wait or are worked on at a moment."""
        return bisect_right(sorted(self.came), at) - bisect_right(sorted(self.left), at)

    def longest_wait(self) -> float:
        """Return the longest time that a study was here without being worked on."""
        return max(left - came - busy for came, left, busy in zip(self.came, self.left, self.busy, strict=True))

    def use(self, begin: float, end: float) -> float:
        """Return how much work comes between two moments, as a share of what can be done meanwhile."""
        came = sum(busy for at, busy in zip(self.came, self.busy, strict=True) if begin <= at < end)
        count = self.stage.servers * (1 if self.stage.is_shared else SITES)
        return came / ((end - begin) * count)


def studies_of_a_day(load: float = 1.0, seed: int = 1) -> list[Study]:
    """Return the studies of a day in the order of their coming, `load` times as many as the 40 sites have."""
    chance = random.Random(seed)
    count = round(STUDIES * load)
    sites = [1 / (number + 1) ** 0.5 for number in range(SITES)]  # the largest site has 9 % of all
    made = []
    for hour, site in zip(
        chance.choices(range(24), HOURS, k=count), chance.choices(range(SITES), sites, k=count), strict=True
    ):
        [(_, instances, megabytes)] = chance.choices(KINDS, [kind[0] for kind in KINDS])
        instances = max(1.0, instances * chance.lognormvariate(-0.125, 0.5))  # mean 1
        made.append(Study((hour + chance.random()) * HOUR, site, instances, instances * megabytes))
    more, larger = INSTANCES * load, MEGABYTES * load
    more, larger = more / sum(one.instances for one in made), larger / sum(one.megabytes for one in made)
    return sorted(
        (replace(one, instances=one.instances * more, megabytes=one.megabytes * larger) for one in made),
        key=lambda one: one.at,
    )


def served(
    came: Sequence[float], work: Sequence[float], servers: int = 1, down: tuple[float, float] | None = None
) -> list[float]:
    """Return when each has been served, in the order of coming, by `servers` that all stand still while `down`."""
    free = [0.0] * servers
    left = []
    for at, needed in zip(came, work, strict=True):
        begin = max(at, heapq.heappop(free))
        if down and down[0] <= begin < down[1]:
            begin = down[1]
        end = begin + needed
        if down and begin < down[0] < end:
            end += down[1] - down[0]
        heapq.heappush(free, end)
        left.append(end)
    return left


def day(
    studies: Sequence[Study],
    stages: Sequence[Stage],
    costs: Costs,
    down: Callable[[Stage], tuple[float, float] | None] = lambda _: None,
) -> list[Queue]:
    """Let the studies pass the stages; return a queue for each stage, in which study i has place i."""
    queues, at = [], [study.at for study in studies]
    for stage in stages:
        queue = Queue(stage, came=at, left=[0.0] * len(at))
        queue.busy = [stage.work(study, costs) / stage.rate for study in studies]
        places: dict[int, list[int]] = {}
        for number in sorted(range(len(at)), key=at.__getitem__):
            places.setdefault(0 if stage.is_shared else studies[number].site, []).append(number)
        for numbers in places.values():
            work = [queue.busy[number] for number in numbers]
            ends = served([at[number] for number in numbers], work, stage.servers, down(stage))
            for number, end in zip(numbers, ends, strict=True):
                queue.left[number] = end
        # The quiet time is no queue: it passes for all at once, before anything is done with the study.
        at = [end + costs.quiet_seconds for end in queue.left] if stage is stages[0] else queue.left
        queues.append(queue)
    return queues


def waiting(queues: Sequence[Queue], moments: Sequence[float]) -> list[int]:
    """Return how many studies have come and not left at each moment."""
    came, left = sorted(queues[0].came), sorted(queues[-1].left)
    return [bisect_right(came, at) - bisect_right(left, at) for at in moments]
