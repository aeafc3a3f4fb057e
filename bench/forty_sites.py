"""Simulate a day of 40 sites in simulated time: what waits, what is busy, and what gives way first.

    .venv/bin/python bench/forty_sites.py            the tables of docs/scale.md, and docs/queue-depth.svg
    .venv/bin/python bench/forty_sites.py --measure  what one study costs on this machine: the values of COSTS

What is simulated are queues (`study_queues.py`); the assumptions and what comes out are in docs/scale.md.
"""

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from study_queues import (  # noqa: E402  # found by the path above
    DAY,
    HOUR,
    HOURS,
    INSTANCES,
    MEGABYTES,
    STUDIES,
    Costs,
    Queue,
    Stage,
    day,
    studies_of_a_day,
    waiting,
)

BUSIEST = (10 * HOUR, 11 * HOUR)
BREAKS_AT = HOUR  # a study that waits longer than that for its turn is not delivered as people expect

# Seconds of a core for a megabyte received.
LINE = 0.0195  # receive, identify, coerce, send, verify: `--measure`, on two cores at load 18, so rather too much
J2K, HTJ2K = 1 / 10.5, 1 / 57  # encode and prove, two processes at once on two cores: docs/adr/0003-jpeg-2000.md
# Flushed transactions: 37 for 200 CT of 105 MB, by `--measure`; five of them do not grow with the study.
TRANSACTIONS = {"transactions_of_a_study": 5, "transactions_a_megabyte": 32 / 105}
LEDGER_BYTES = 1700  # of an instance and its receipt, by `--measure`
COSTS = {
    "none": Costs(LINE, 1.0, **TRANSACTIONS),
    "j2k": Costs(LINE + J2K, 0.25, **TRANSACTIONS),  # 3.1 (CR) to 5.1 (CT) times smaller
    "htj2k": Costs(LINE + HTJ2K, 0.27, **TRANSACTIONS),
}
# Flushed transactions a second, one after the other: the least of three times `--measure` at load 18 to 24, on a
# virtual disk that copies and flushes 60 MB/s. A server's own disk does more.
SQLITE, POSTGRESQL = 88.0, 46.0
GIGABIT = 110.0  # megabytes a second


def stages_of(  # noqa: PLR0913  # each by its name
    *, cores: float, gigabits: float, disk: float, ledger: float = SQLITE, machines: int = 1, fleet: bool = False
) -> tuple[Stage, ...]:
    """Return the stages of `machines`, each with so many cores, gigabits and megabytes a second of its disk.

    `ledger` is what one ledger for all of them commits a second; `fleet` gives each site a machine and a ledger of
    its own. The archive is assumed to have 8 cores and to need 4.5 ms of one for an instance.
    """
    many, shared, network = machines, not fleet, gigabits * GIGABIT
    return (
        Stage("network in", "MB/s", lambda study, _: study.megabytes, network, many, shared),
        Stage("cores", "cores", lambda s, c: s.megabytes * c.processor_seconds_a_megabyte, cores, many, shared),
        Stage("disk", "MB/s", lambda study, costs: study.megabytes * (1 + costs.share_sent), disk, many, shared),
        Stage("ledger", "/s", lambda study, costs: costs.transactions(study), ledger, 1, shared),
        Stage("network out", "MB/s", lambda study, c: study.megabytes * c.share_sent, network, many, shared),
        Stage("archive", "instances/s", lambda study, _: study.instances, 8 / 0.0045),
    )


LARGE = {"cores": 16, "gigabits": 10, "disk": 1000}
WORLDS = (
    ("one machine of 16 cores, not encoded", "none", stages_of(**LARGE)),
    ("one machine of 16 cores, htj2k", "htj2k", stages_of(**LARGE)),
    ("one machine of 16 cores, j2k", "j2k", stages_of(**LARGE)),
    ("the same, ledger on PostgreSQL, j2k", "j2k", stages_of(**LARGE, ledger=POSTGRESQL)),
    ("a machine of 4 cores for each site, j2k", "j2k", stages_of(cores=4, gigabits=1, disk=400, fleet=True)),
    (
        "three machines of 8 cores at once, j2k",
        "j2k",
        stages_of(cores=8, gigabits=10, disk=1000, ledger=POSTGRESQL, machines=3),
    ),
)
LOADS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
MINUTES = [minute * 60.0 for minute in range(36 * 60)]


def breaks(stages: Sequence[Stage], costs: Costs) -> str:
    """Return at which load a study first waits longer than BREAKS_AT for a stage, and for which."""
    for load in LOADS:
        worst = max(day(studies_of_a_day(load), stages, costs), key=Queue.longest_wait)
        if worst.longest_wait() > BREAKS_AT:
            return f"x{load}: {worst.stage.name}"
    return f"not at x{LOADS[-1]}"


def catching_up(stages: Sequence[Stage], costs: Costs, down: Callable[[Stage], bool]) -> tuple[int, int | None]:
    """Return how many studies wait at the end of an outage of the busiest hour, and how many minutes longer.

    None is for more than a day and a half.
    """
    studies = studies_of_a_day()
    usual = waiting(day(studies, stages, costs), MINUTES)
    found = waiting(day(studies, stages, costs, lambda stage: BUSIEST if down(stage) else None), MINUTES)
    end = round(BUSIEST[1] / 60)
    over = next((minute for minute in range(end, len(MINUTES)) if found[minute] <= usual[minute] + 1), None)
    return found[end], None if over is None else over - end


def rows() -> Iterator[list[str]]:
    """Yield the cells of a line of the table for each world."""
    for name, encode, stages in WORLDS:
        costs, studies = COSTS[encode], studies_of_a_day()
        queues = day(studies, stages, costs)
        use = [f"{queue.use(*BUSIEST):.0%}" for queue in queues]
        waits = max(
            left - study.at - costs.quiet_seconds for left, study in zip(queues[-1].left, studies, strict=True)
        )
        cells = [name, *use, str(max(waiting(queues, MINUTES))), f"{waits / 60:.1f} min"]
        for down in (lambda stage: stage.name == "archive", lambda _: True):
            waited, minutes = catching_up(stages, costs, down)
            cells.append(f"{waited}, {'over a day' if minutes is None else f'{minutes} min'}")
        yield [*cells, breaks(stages, costs)]


def sums() -> Iterator[str]:
    """Yield what follows from the costs alone: bytes, transactions, rows."""
    costs, busiest = COSTS["j2k"], max(HOURS) / 100 / HOUR
    yield f"studies in the busiest hour: {STUDIES * busiest:.2f}/s, instances {INSTANCES * busiest:.0f}/s"
    yield f"bytes in the busiest hour: {MEGABYTES * busiest:.0f} MB/s in"
    flushed = STUDIES * costs.transactions_of_a_study + MEGABYTES * costs.transactions_a_megabyte
    yield f"transactions: {flushed / DAY:.0f}/s in the mean, {flushed * busiest:.0f}/s in the busiest hour"
    yield f"ledger: {INSTANCES * LEDGER_BYTES / 1e9:.0f} GB a day for each destination"
    for encode, one in COSTS.items():
        cores = MEGABYTES * one.processor_seconds_a_megabyte
        yield f"cores, {encode}: {cores / DAY:.1f} in the mean, {cores * busiest:.1f} in the busiest hour"


# --- the picture -----------------------------------------------------------------------------------------------

LEFT, TOP, WIDTH, HEIGHT = 60, 50, 760, 260
COLOURS = ("#228833", "#4477aa", "#cc6677", "#aa3377")
PICTURE = HERE.parent / "docs/queue-depth.svg"


def curves() -> dict[str, list[int]]:
    """Return how many studies wait in each minute of the day, for one machine that encodes in JPEG 2000."""
    stages, costs = stages_of(**LARGE), COSTS["j2k"]
    archive = day(studies_of_a_day(), stages, costs, lambda stage: BUSIEST if stage.name == "archive" else None)
    return {
        "as assumed": waiting(day(studies_of_a_day(), stages, costs), MINUTES),
        "the archive is down from 10 to 11": waiting(archive, MINUTES),
        "everything is down from 10 to 11": waiting(
            day(studies_of_a_day(), stages, costs, lambda _: BUSIEST), MINUTES
        ),
        "twice as many studies": waiting(day(studies_of_a_day(2), stages, costs), MINUTES),
    }


def drawn(lines: dict[str, list[int]], hours: int = 24) -> Iterator[str]:
    """Yield the lines of the picture: how many studies wait, over the hours of the day."""
    most = max(max(depth[: hours * 60]) for depth in lines.values())
    step = next(one for one in (1, 5, 10, 50, 100, 250, 500, 1000, 2500, 5000, 10**5) if most / one <= 8)
    height = TOP + HEIGHT + 40
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" '
    yield 'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    yield f'<text x="{LEFT}" y="20" font-size="14">Waiting studies: 40 sites, a machine of 16 cores, j2k</text>'
    for count in range(0, most + step, step):
        y = TOP + HEIGHT * (1 - count / (most + step))
        yield f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{count}</text>'
    for hour in range(0, hours + 1, 2):
        x = LEFT + WIDTH * hour / hours
        yield f'<text x="{x:.1f}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{hour} h</text>'
    for number, (name, depth) in enumerate(lines.items()):
        points = " ".join(
            f"{LEFT + WIDTH * minute / (hours * 60):.1f},{TOP + HEIGHT * (1 - depth[minute] / (most + step)):.1f}"
            for minute in range(0, hours * 60, 3)
        )
        colour = COLOURS[number]
        yield f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'
        yield f'<text x="{LEFT + 10}" y="{TOP + 14 + 16 * number}" fill="{colour}">{name}</text>'
    yield "</svg>"


def main() -> None:
    """Print the tables and draw the picture, or measure."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--measure", action="store_true", help="measure the costs on this machine instead")
    if parser.parse_args().measure:
        from unit_costs import measured  # noqa: PLC0415  # a simulation needs no Orthanc

        for what, value in measured():
            print(f"{what:40} {value}", flush=True)
        return
    print("\n".join(sums()), end="\n\n")
    used = [f"{stage.name}" for stage in WORLDS[0][2]]
    head = ["", *used, "most wait", "longest wait", "archive down", "all down", "breaks first"]
    print(f"| {' | '.join(head)} |\n|{'---|' * len(head)}")
    for cells in rows():
        print(f"| {' | '.join(cells)} |", flush=True)
    PICTURE.write_text("\n".join(drawn(curves())) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
