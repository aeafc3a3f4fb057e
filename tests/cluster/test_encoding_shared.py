"""Studies that arrive at one of two nodes are encoded by both, in little more than half of the time of one."""

import os
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.machine.dicom_programs import wait_until
from support.machine.postgresql import PostgresqlServer
from support.sites import ledger_place
from support.sites.acceptance import WHOLE, report, size
from support.sites.cluster_site import ClusterNode, ClusterSite
from support.sites.line_site import instance
from support.sites.running_nodes import log_of, running

pytestmark = pytest.mark.programs
STUDIES, PAIRS = size(10, 40), size(1, 3)
INSTANCES, ROWS = size(4, 2), 1024
MOST = 0.6  # Of what one node needs.
ALONE = size(3, STUDIES)  # Studies that one node does alone: the processor time of a study needs no more of them.
MORE = 1.3  # Of the processor time of one node, for both together: nothing is encoded twice.


@dataclass(frozen=True)
class Run:
    """The seconds until all was delivered, and of each node its processor time and the studies it encoded."""

    seconds: float
    processor: dict[str, float]
    encoded_by: dict[str, int]


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> list[list[Path]]:
    """Return the files of each study: images of 2 MB, each with a noise of its own."""
    folder = tmp_path_factory.mktemp("files")
    noise = np.random.default_rng(10)
    about = {"Rows": ROWS, "Columns": ROWS}
    return [
        [
            instance(
                folder,
                f"{study}-{number}",
                StudyInstanceUID=f"1.2.40.{study + 1}",
                PixelData=noise.integers(0, 1 << 10, (ROWS, ROWS), np.int16).tobytes(),
                **about,
            )
            for number in range(INSTANCES)
        ]
        for study in range(STUDIES)
    ]


def processor_seconds(leader: psutil.Process) -> float:
    """Return the processor time of a process, and of its children that live or have ended."""
    times = [process.cpu_times() for process in (leader, *leader.children(recursive=True))]
    return sum(one.user + one.system + one.children_user + one.children_system for one in times)


def run(folder: Path, server: PostgresqlServer, studies: list[list[Path]], *names: str) -> Run:
    """Let nodes of one core each see to the studies, which have all arrived at the first of them."""
    with ledger_place.on(server), running() as commands:
        site = ClusterSite(folder)
        sink = [{"name": "sink", "kind": "null", "encode": "j2k"}]
        nodes = [site.node(name, destinations=sink) for name in names]
        workers: dict[str, psutil.Process] = {}
        for core, node in enumerate(nodes):
            workers[node.name] = psutil.Process(commands.start(node, "work", core=core).pid)
            wait_until(lambda node=node: is_up(node), seconds=60, what="the worker")
        before = {name: processor_seconds(worker) for name, worker in workers.items()}
        began = time.monotonic()
        for files in studies:
            nodes[0].arrive(*files)
        wait_until(lambda: site.is_settled(len(studies)), seconds=600, what="all is settled")
        seconds = time.monotonic() - began
        spent = {name: processor_seconds(worker) - before[name] for name, worker in workers.items()}
        assert Counter(row["state"] for row in site.rows("instance")) == {"encoded": len(studies) * INSTANCES}
        receipts = Counter(row["instance"] for row in site.rows("receipt"))
        assert receipts.total() == len(receipts) == len(studies) * INSTANCES
        for node in nodes:
            assert "Traceback" not in log_of(node).read_text()
            assert " fenced " not in log_of(node).read_text()
        return Run(
            seconds, spent, {node.name: log_of(node).read_text().count(" encoded study=") for node in nodes}
        )


def is_up(node: ClusterNode) -> bool:
    return log_of(node).is_file() and "worker-started" in log_of(node).read_text()


def test_two_nodes_of_one_core_encode_together_what_arrives_at_one(studies, postgresql_server, tmp_path):
    of_time, of_processor = [], []
    for pair in range(PAIRS):
        two = run(tmp_path / f"two-{pair}", postgresql_server, studies, "a", "b")
        print(f"two {two}\nload {os.getloadavg()[0]:.1f}")
        assert min(two.encoded_by.values()) >= STUDIES // 4, "each takes its part"
        one = run(tmp_path / f"one-{pair}", postgresql_server, studies[:ALONE], "a")
        assert one.encoded_by == {"a": ALONE}
        more = (sum(two.processor.values()) / STUDIES) / (one.processor["a"] / ALONE)
        print(f"one {one}\nboth together need for a study {more:.2f} of its processor time")
        assert more <= MORE
        if WHOLE:  # Of ten studies, one more at one node is a tenth; and beside other tests the time is theirs.
            of_time.append(two.seconds / one.seconds)
            of_processor.append(max(two.processor.values()) / one.processor["a"])
    if WHOLE:
        ratio, share = statistics.median(of_time), statistics.median(of_processor)
        report(10, f"two nodes of one core for {STUDIES} studies", f"{ratio:.2f} of one node's time")
        report(10, "processor time of the busier of two nodes", f"{share:.2f} of that of one")
        assert share <= MOST
        assert ratio <= MOST
