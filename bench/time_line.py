"""Draw what each process did while one study went from its sender to the archive.

    .venv/bin/python bench/time_line.py [INSTANCES] [study|association] [none|j2k|htj2k]

A lane for each kind of process shows how much of a core it used, sampled forty times a second; the lines across
are what the site's log says, and what sender and archive saw.
"""

import os
import re
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from html import escape
from itertools import pairwise
from pathlib import Path

import psutil

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

from rows_of_delivery import QUIET_SECONDS, held, wait_for  # noqa: E402  # found by the path above
from studies import slices  # noqa: E402
from support.machine.dicom_programs import dcmsend, orthanc  # noqa: E402
from support.sites.running_site import running_site  # noqa: E402

PICTURE = HERE.parent / "docs" / "time-line.svg"
SAMPLE_SECONDS = 0.025
# Whose command line holds these words is drawn in that lane; the first that fits.
LANES = (
    ("sender", ("dcmsend",)),
    ("storescp", ("storescp",)),
    ("receiver", ("pipeline", " receive ")),
    ("worker", ("pipeline", " work")),
    ("process pool", ("bounded_process",)),
    ("archive", ("Orthanc",)),
)
COLOURS = ("#888888", "#4477aa", "#66ccee", "#228833", "#ccbb44", "#aa3377")
SAID = re.compile(r"^(\S+ \S+) \w+ (admitted|coerced|encoded|delivered|settled) ", re.MULTILINE)
LEFT, WIDTH, LANE, TOP = 110, 1000, 56, 120

Samples = dict[str, list[tuple[float, float]]]  # By lane: when, and how many cores were used since the last one.


class Sampler(threading.Thread):
    """Samples the processes below this one until it is stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.samples: Samples = defaultdict(list)
        self.ended = threading.Event()

    def run(self) -> None:
        """Add to each lane what its processes have used since the last look."""
        used: dict[int, float] = {}
        last, me = time.time(), psutil.Process()
        while not self.ended.wait(SAMPLE_SECONDS):
            by_lane: dict[str, float] = defaultdict(float)
            for process in me.children(recursive=True):
                try:
                    lane = lane_of(" ".join(process.cmdline()))
                    total = sum(process.cpu_times()[:2])
                except psutil.Error:
                    continue
                by_lane[lane] += total - used.get(process.pid, total)
                used[process.pid] = total
            now = time.time()
            for lane, seconds in by_lane.items():
                self.samples[lane].append((now, seconds / (now - last)))
            last = now


def lane_of(command_line: str) -> str:
    """Return the lane of a process, "" for one that is not drawn."""
    return next((lane for lane, words in LANES if all(word in command_line for word in words)), "")


def watched(instances: int, mode: str, encode: str) -> tuple[Samples, dict[str, float]]:
    """Let one study go through a site, after a first one that is not looked at; return samples and moments."""
    with tempfile.TemporaryDirectory() as name, orthanc(Path(name, "archive")) as archive:
        table = {"name": "archive", "kind": "stow", "url": archive.studies, "encode": encode}
        with running_site(
            Path(name, "site"), mode=mode, quiet_seconds=QUIET_SECONDS, destinations=[table]
        ) as site:
            for count in (5, instances):
                (study,) = slices(Path(name, f"study{count}"), count)
                before, sampler, marks = held(archive), Sampler(), {}
                seen = len(site.text())
                sampler.start()
                marks["first C-STORE"] = time.time()
                assert dcmsend(site.port, study).acknowledged == count
                marks["last C-STORE"] = time.time()
                wait_for(archive, before + count)
                marks["archive has all"] = time.time()
                site.wait_settled()
                sampler.ended.set()
            for at, verb in SAID.findall(site.text()[seen:]):
                marks[verb] = datetime.strptime(at, "%Y-%m-%d %H:%M:%S,%f").astimezone().timestamp()
    return sampler.samples, marks


def drawn(samples: Samples, marks: Mapping[str, float], title: str) -> Iterator[str]:
    """Yield the lines of the picture."""
    begin, end = min(marks.values()) - 0.1, max(marks.values()) + 0.2

    def x(moment: float) -> float:
        return LEFT + (moment - begin) / (end - begin) * WIDTH

    height = TOP + LANE * len(LANES) + 30
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {LEFT + WIDTH + 20} {height}" '
    yield 'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    yield f'<text x="{LEFT}" y="18" font-size="14">{escape(title)}</text>'
    for number, (lane, _) in enumerate(LANES):
        bottom = TOP + LANE * (number + 1) - 6
        yield f'<text x="{LEFT - 8}" y="{bottom - 16}" text-anchor="end">{lane}</text>'
        yield f'<line x1="{LEFT}" x2="{LEFT + WIDTH}" y1="{bottom}" y2="{bottom}" stroke="#ddd"/>'
        yield from _bars([(x(at), cores) for at, cores in samples.get(lane, ())], bottom, COLOURS[number])
    for row, (what, moment) in enumerate(sorted(marks.items(), key=lambda mark: mark[1])):
        y = 36 + 12 * (row % 7)
        at, anchor = x(moment), "start" if x(moment) < LEFT + WIDTH * 0.8 else "end"
        yield f'<line x1="{at:.1f}" x2="{at:.1f}" y1="{y}" y2="{height - 30}" stroke="#c00" '
        yield 'stroke-dasharray="2 3"/>'
        yield f'<text x="{at + (3 if anchor == "start" else -3):.1f}" y="{y + 4}" fill="#c00" '
        yield f'text-anchor="{anchor}">{what} {moment - marks["first C-STORE"]:.2f} s</text>'
    seconds = int(end - marks["first C-STORE"])
    for second in range(0, seconds + 1, 1 + seconds // 20):
        at = x(marks["first C-STORE"] + second)
        yield f'<text x="{at:.1f}" y="{height - 10}" text-anchor="middle">{second} s</text>'
    yield "</svg>"


def _bars(samples: Sequence[tuple[float, float]], bottom: float, colour: str) -> Iterator[str]:
    for (left, _), (right, cores) in pairwise(samples):
        high = min(cores, 2.0) / 2.0 * (LANE - 12)  # the height of a lane is two cores
        if high >= 0.5 and LEFT <= left <= LEFT + WIDTH:
            yield f'<rect x="{left:.1f}" y="{bottom - high:.1f}" width="{max(right - left, 0.5):.1f}" '
            yield f'height="{high:.1f}" fill="{colour}"/>'


def main() -> None:
    """Watch and draw."""
    words = [*sys.argv[1:], *("200", "study", "none")[len(sys.argv) - 1 :]]
    instances, mode, encode = int(words[0]), words[1], words[2]
    samples, marks = watched(instances, mode, encode)
    title = f"{instances} CT, mode = {mode}, encode = {encode}, quiet_seconds = {QUIET_SECONDS}"
    title += f", load {os.getloadavg()[0]:.0f}"
    PICTURE.write_text("\n".join(drawn(samples, marks, title)) + "\n", encoding="utf-8")
    for what, moment in sorted(marks.items(), key=lambda mark: mark[1]):
        print(f"{moment - marks['first C-STORE']:6.2f} s  {what}")


if __name__ == "__main__":
    main()
