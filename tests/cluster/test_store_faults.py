"""The store fails or hangs at every stage: nothing is lost, sent wrongly or set aside, and all goes on by itself.

The store is mounted through a file system that fails as a test says (support.machine.faulty_disk); PostgreSQL,
workers, receivers and senders are real processes.
"""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pydicom
import pytest
from support.machine.dicom_programs import dcmsend, listens, wait_until
from support.machine.faulty_disk import HANG, FaultyDisk, faulty_disk
from support.machine.postgresql import PostgresqlServer
from support.sites import ledger_place
from support.sites.acceptance import report, size
from support.sites.cluster_site import ClusterNode, ClusterSite
from support.sites.line_site import instance
from support.sites.running_nodes import Running, log_of, running, until_settled
from support.sites.running_site import command

pytestmark = pytest.mark.programs
INSTANCES = 2
TRANSIENT = 75  # EX_TEMPFAIL: the service manager starts the worker again.
HANG_SECONDS = size(5.0, 60.0)
ERRNOS = ("EIO", "ENOSPC", "ESTALE")
COPIED, ADMITTED, MADE = r"^/arrivals/\.[^/]*@", r"^/arrivals/[^./][^/]*@", r"^/outputs/"
STAGES = {
    "hand-over": (COPIED, ("mkdir", "create", "write", "fsync", "open", "read", "rename")),
    "identify": (ADMITTED, ("opendir", "read", "open")),
    "prepare": (MADE, ("create", "write", "rename")),  # Never flushed: what is lost is made again.
    "deliver": (f"{MADE}|{ADMITTED}", ("open", "read")),
    "settle": (r"account\.json|^/settled/", ("create", "write", "fsync", "rename")),
}
EACH = [(stage, operation) for stage, (_, operations) in STAGES.items() for operation in operations]
# Small, every other operation fails with one errno; whole, each with all.
FAULTS = [
    (*one, errno)
    for number, one in enumerate(size(EACH[::2], EACH))
    for errno in size((ERRNOS[number % len(ERRNOS)],), ERRNOS)
]


@dataclass
class Scene:
    """A node whose store fails as told, and what was sent to it so far."""

    site: ClusterSite
    node: ClusterNode
    disk: FaultyDisk
    commands: Running
    files: Path
    sent: list[list[Path]] = field(default_factory=list)

    def send(self) -> Counter[str]:
        """Send a new study; the modality is answered Success whatever the store does. Return what it has."""
        number = len(self.sent)
        study = [
            instance(self.files, f"{number}-{one}", StudyInstanceUID=f"1.2.3.{number}", PatientID=f"P{number}")
            for one in range(INSTANCES)
        ]
        assert dcmsend(self.node.port, *study).acknowledged == INSTANCES
        self.sent.append(study)
        return uids(study)

    def log(self) -> str:
        return log_of(self.node).read_text()

    def settled(self) -> None:
        until_settled(self.site, len(self.sent), self.node, seconds=60)

    def assert_each_once(self) -> None:
        """Assert that all that was sent is delivered once, kept once, and set aside nowhere."""
        count = len(self.sent) * INSTANCES
        assert self.site.delivered().total() == len(self.site.delivered()) == count
        assert uids(kept_in(self.site.store)) == uids(file for study in self.sent for file in study)
        received = Counter(row["received_sha256"] for row in self.site.rows("instance"))
        assert self.site.contents() == received, "every original is kept as it was received"
        assert {row["state"] for row in self.site.rows("arrival")} == {"settled"}
        assert {row["state"] for row in self.site.rows("instance")} <= {"passed", "encoded"}
        receipts = self.site.rows("receipt")
        assert len({row["instance"] for row in receipts}) == len(receipts) == count
        assert {(row["state"], row["verified"]) for row in receipts} <= {("stored", True), ("duplicate", True)}
        assert " quarantined " not in self.log()
        assert " refused " not in self.log()
        assert "Traceback" not in self.log()


def kept_in(folder: Path) -> list[Path]:
    """Return the received files below the rooms of a spool or store, without unfinished copies."""
    return [file for room in ("arrivals", "settled", "quarantine") for file in folder.glob(f"{room}/[!.]*/CT*")]


def uids(files: Iterable[Path]) -> Counter[str]:
    return Counter(str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files)


@pytest.fixture
def scene(postgresql_server: PostgresqlServer, tmp_path: Path) -> Iterator[Scene]:
    (tmp_path / "files").mkdir()
    (tmp_path / "mounted").mkdir()
    with ExitStack() as stack:
        stack.enter_context(ledger_place.on(postgresql_server))
        site = ClusterSite(tmp_path / "site")
        site.store.mkdir(parents=True)
        disk = stack.enter_context(faulty_disk(site.store, tmp_path / "mounted"))
        node = site.node("a", store=disk.mount_point)
        yield Scene(site, node, disk, stack.enter_context(running()), tmp_path / "files")


def start(scene: Scene) -> None:
    scene.commands.start(scene.node, "receive", "modalities")
    scene.commands.start_impatient_worker(scene.node)
    wait_until(lambda: listens(scene.node.port), seconds=60, what="the receiver")
    wait_until(lambda: "worker-started" in scene.log(), seconds=60, what="the worker")


def test_every_fault_at_every_stage_is_transient(scene):
    start(scene)
    seen: Counter[str] = Counter()
    for stage, operation, errno in FAULTS:
        where, _ = STAGES[stage]
        if stage == "deliver":
            command(scene.node.file, "pause", "filed")
            study = scene.send()
            until_waiting(scene)
            before, said = scene.disk.fail(errno, operation, where=where), complaints(scene)
            command(scene.node.file, "resume", "filed")
        else:
            before, said = scene.disk.fail(errno, operation, where=where), complaints(scene)
            study = scene.send()
        about = f"{stage} {operation} {errno}"
        wait_until(lambda b=before: len(scene.disk.failures()) > b, seconds=30, what=f"{about}: it fails")
        wait_until(lambda s=said: complaints(scene) > s, seconds=30, what=f"{about}: the worker says so")
        states = Counter(row["state"] for row in scene.site.rows("arrival"))
        earlier = len(scene.sent) - 1
        assert states["settled"] == earlier, about
        assert not states["quarantined"], about
        assert scene.site.delivered().total() == INSTANCES * (earlier + (stage == "settle")), about
        kept = scene.node.spool.root if stage == "hand-over" else scene.site.store
        assert study <= uids(kept_in(kept)), f"{about}: nothing is lost"
        seen[errno] += len(scene.disk.failures()) - before
        scene.disk.work()
        scene.settled()
    scene.assert_each_once()
    for errno in ERRNOS:
        report(
            7,
            f"{errno} on {len(EACH)} operations of {len(STAGES)} stages",
            f"{seen[errno]} failures, all transient",
        )
    report(7, "studies delivered once after faults", f"{len(scene.sent)} of {len(FAULTS)}")


def complaints(scene: Scene) -> int:
    """Return how often the worker said that something is put off."""
    return sum(scene.log().count(f" {word} ") for word in ("held", "deferred", "peer-down"))


def until_waiting(scene: Scene) -> None:
    wait_until(
        lambda: {row["state"] for row in scene.site.rows("delivery")} >= {"waiting"},
        seconds=60,
        what="a delivery that waits",
    )


def test_a_start_while_the_store_fails_is_tried_again(scene):
    first = scene.commands.start(scene.node, "work")
    wait_until(lambda: "worker-started" in scene.log(), seconds=60, what="the worker")
    first.terminate()
    assert first.wait(60) == 0
    for errno, operation in (("EIO", "opendir"), ("ENOSPC", "create"), ("ESTALE", "getattr"), ("EIO", "read")):
        before = scene.disk.fail(errno, operation)
        assert scene.commands.start(scene.node, "work").wait(60) == TRANSIENT, (
            f"{errno} {operation}\n{scene.log()}"
        )
        report(7, f"a start with {errno} on {operation}", f"ends with {TRANSIENT}, started again")
        assert len(scene.disk.failures()) > before
        scene.disk.work()
    start(scene)
    scene.send()
    scene.settled()
    scene.assert_each_once()


def test_while_the_store_hangs_reception_goes_on_and_a_person_is_answered(scene):
    start(scene)
    scene.send()
    scene.settled()
    usual = {word: timed(scene, word)[0] for word in ("status", "check")}
    scene.disk.fail(HANG)
    began = time.monotonic()
    scene.send()
    for word, seconds in usual.items():
        took, said = timed(scene, word)
        report(7, f"seconds more for {word} while the store hangs", f"{took - seconds:.1f}")
        assert "does not answer for 5 s" in said, "and it ends, although the store still hangs"
    wait_until(lambda: time.monotonic() - began >= HANG_SECONDS, seconds=2 * HANG_SECONDS, what="the hang")
    assert scene.site.delivered().total() == INSTANCES
    assert len(scene.site.rows("arrival")) == 1
    scene.disk.work()
    scene.settled()
    scene.assert_each_once()
    report(7, "a hang", f"{time.monotonic() - began:.0f} s, then delivered once")


def test_a_node_whose_store_hangs_is_taken_over_and_fenced(scene):
    start(scene)
    command(scene.node.file, "pause", "filed")
    scene.send()
    until_waiting(scene)
    scene.disk.fail(HANG, "open", "read", where=MADE)
    command(scene.node.file, "resume", "filed")
    wait_until(
        lambda: {row["state"] for row in scene.site.rows("delivery")} == {"sending"}, seconds=60, what="a delivery"
    )
    scene.disk.fail(HANG)
    other = scene.site.node("b")
    scene.commands.start_impatient_worker(other)
    wait_until(lambda: scene.site.delivered().total() == INSTANCES, seconds=120, what="the other node delivers")
    assert "taken-over node=a by=b deliveries=1 " in log_of(other).read_text()
    scene.disk.work()
    wait_until(lambda: "fenced what=deliver" in scene.log(), seconds=60, what="it is fenced")
    scene.settled()
    scene.assert_each_once()
    tried = Counter((row["node"], row["state"]) for row in scene.site.rows("attempt"))
    report(7, "a node whose store hangs", f"taken over and fenced, attempts {dict(tried)}")


def timed(scene: Scene, word: str) -> tuple[float, str]:
    """Return how many seconds a command takes, and what it says."""
    began = time.monotonic()
    done = command(scene.node.file, word)
    return time.monotonic() - began, done.stdout
