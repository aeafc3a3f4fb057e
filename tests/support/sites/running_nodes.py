"""Commands of the nodes of a cluster as processes, the logs they write, and waiting for what they do."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
from support.machine.dicom_programs import ENVIRONMENT, stop, wait_until
from support.sites.cluster_site import ClusterNode, ClusterSite
from support.sites.running_site import COMMAND

IMPATIENT = Path(__file__).with_name("impatient_worker.py")


class Running:
    """Commands of nodes, started again when a test has killed them."""

    def __init__(self) -> None:
        self._processes: list[tuple[str, subprocess.Popen[bytes]]] = []

    def start(self, node: ClusterNode, *words: str, core: int | None = None) -> subprocess.Popen[bytes]:
        """Start a command of a node, on one core of the machine only, if named."""
        only = [] if core is None else ["taskset", "--cpu-list", str(core)]
        return self._start(node, [*only, *node.inside(*COMMAND, "--site", str(node.file), *words)])

    def start_impatient_worker(self, node: ClusterNode) -> subprocess.Popen[bytes]:
        """Start `work` with shorter waits after a failure, see there."""
        return self._start(node, [sys.executable, str(IMPATIENT), str(node.file)])

    def _start(self, node: ClusterNode, argv: list[str]) -> subprocess.Popen[bytes]:
        with log_of(node).open("ab") as log:
            process = subprocess.Popen(
                argv, env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._processes.append((node.name, process))
        return process

    def kill(self, node: ClusterNode) -> None:
        """Kill at once all that runs of a node, as the end of its machine does."""
        mine = [process for name, process in self._processes if name == node.name]
        found: list[psutil.Process] = []
        for process in mine:
            with contextlib.suppress(psutil.Error):
                leader = psutil.Process(process.pid)
                found += [leader, *leader.children(recursive=True)]
        for one in found:
            with contextlib.suppress(psutil.Error):
                one.kill()
        for process in mine:
            process.wait()

    def end(self, node: ClusterNode) -> None:
        """End all that runs of a node, as its service manager does."""
        mine = [process for name, process in self._processes if name == node.name]
        for process in mine:
            stop(process, seconds=40)

    def stop(self) -> None:
        for _, process in self._processes:
            stop(process)


@contextlib.contextmanager
def running() -> Iterator[Running]:
    found = Running()
    try:
        yield found
    finally:
        found.stop()


def log_of(node: ClusterNode) -> Path:
    return node.file.with_name("log.txt")


def until_settled(site: ClusterSite, count: int, *nodes: ClusterNode, seconds: float = 120) -> None:
    def is_over() -> bool:
        return site.is_settled(count) and not any(any(node.spool.received.iterdir()) for node in nodes)

    try:
        wait_until(is_over, seconds=seconds, what="all is settled")
    except AssertionError as error:
        logs = "\n".join(log_of(node).read_text()[-6000:] for node in nodes)
        raise AssertionError(f"{error}\n{logs}") from error
