"""Machines are killed as a whole, again and again: nothing is lost, doubled or held, and another takes over.

A machine has a network, a process namespace and a spool of its own; the database and the archives are outside.
Half of the machines lose their network first, so that the server learns of their death from nobody.
"""

import contextlib
import random
import threading
from pathlib import Path

import psutil
import pytest
from support.crash.crash_site import situations
from support.crash.moments import point_of
from support.machine.dicom_programs import wait_until
from support.sites.acceptance import report, size
from support.sites.machine_cluster import SLOTS, Cluster, Senders, Watch, check, cluster, small_study
from support.sites.machines import Machine
from support.sites.running_site import command

pytestmark = pytest.mark.programs
LOST_AFTER = 15.0
STUDIES, KILLS = size(40, 500), size(4, 20)
SHARES = size(1, 4)  # Tests among which the waypoints are divided.
# What happens once in the life of a store, or before a worker has anything in hand.
ONCE = ("ledger.", "spool.key_file.", "site.worker_refusal.", "dcmtk.programs.")
SOME = ("admitted", "taken-in", "consigned", "claimed", "deliver-receipt", "attempted", "concluded", "settling")


@pytest.fixture
def chance() -> random.Random:
    seed = random.randrange(1_000_000)
    print(f"seed {seed}, load {psutil.getloadavg()[0]:.1f}")
    return random.Random(seed)


def test_machines_are_killed_at_random_moments(tmp_path, chance):
    with cluster(tmp_path) as it:
        it.start(*it.machines)
        with Watch(it) as watch, Senders(it.machines, chance) as senders:
            for number in range(KILLS):
                for one in range(number * STUDIES // KILLS, (number + 1) * STUDIES // KILLS):
                    senders.send(small_study(tmp_path / "files", one, chance.randint(1, 3)))
                in_silence = number % 4 in {0, 3}
                if number % size(KILLS, 2):
                    machine = chance.choice(it.machines)
                    with contextlib.suppress(AssertionError):  # The moment is drawn: nothing is awaited.
                        wait_until(lambda: False, seconds=chance.uniform(0.5, 4))
                    it.kill(machine, in_silence=in_silence)
                else:
                    machine = kill_with_deliveries_in_hand(it, in_silence=in_silence)
                    wait_until(lambda one=machine: it.is_taken_over(one), seconds=90, what="takeover")
                if number == KILLS // 2:
                    no_archive_for_a_while(it, senders, tmp_path / "files")
                it.start(machine)
            wait_until(senders.is_idle, seconds=300, what="all was sent")
            it.until_done(senders.wanted)
        said = check(it, senders.wanted)
        taken_over = it.next_attempts()
        before = of_line_before_an_order(it, chance, tmp_path / "files")
    seconds = max(one for one in taken_over if one is not None)
    report(3, f"{KILLS} random kills of a machine, {STUDIES} studies", f"{said}, {senders.again} sent again")
    report(3, "longest from a kill to the next attempt", f"{seconds} s of {len(taken_over)}, load {load()}")
    report(4, f"most in hand at once with {SLOTS} slots, trials", f"{dict(watch.most)}, {watch.looks} looks")
    report(4, "deliveries of the line begun before that of an order, of 6 that waited longer", str(before))
    assert None not in taken_over
    assert seconds <= LOST_AFTER + 10
    assert watch.most["ledger pacs"] == SLOTS
    assert watch.most["connections"] <= SLOTS
    assert watch.most["trials"] <= 1  # One that is refused at once may end between two looks.
    assert before < SLOTS


def load() -> str:
    return f"{psutil.getloadavg()[0]:.1f}"


def kill_with_deliveries_in_hand(it: Cluster, *, in_silence: bool) -> Machine:
    """Kill the machine that waits for an answer of the archive."""
    with it.slow_archive():
        busy = wait_until(
            lambda: [one for one in it.machines if it.has_in_hand(one)], seconds=60, what="a delivery"
        )
        it.kill(busy[0], in_silence=in_silence)
    return busy[0]


def no_archive_for_a_while(it: Cluster, senders: Senders, files: Path) -> None:
    """End the archive until a trial has failed, while more studies come."""
    it.close_archive()
    for number in range(6):
        senders.send(small_study(files, STUDIES + number, 1))
    failed = "SELECT count(*) FROM attempt JOIN destination ON began_at > down_since WHERE ended_at IS NOT NULL"
    wait_until(lambda: it.ask(failed)[0][0], seconds=60, what="a trial")
    it.open_archive()


def of_line_before_an_order(it: Cluster, chance: random.Random, files: Path) -> int:
    """Return how many deliveries of the line begin before that of an order, for which all had to wait."""
    waiting = "SELECT count(*) FROM delivery WHERE destination = 'pacs' AND state = 'waiting' AND order_id IS "
    site = it.machines[0].node.file
    assert command(site, "pause", "pacs").returncode == 0
    with Senders(it.machines, chance) as senders:
        for number in range(6):
            senders.send(small_study(files, STUDIES + 100 + number, 1))
        wait_until(lambda: it.ask(f"{waiting} NULL")[0][0] == 6, seconds=60, what="deliveries of the line")
    (file,) = small_study(files, STUDIES + 200, 1)
    sent = command(site, "send", str(file), "--to", "pacs", "--no-wait")
    assert sent.returncode == 0, sent.stderr
    wait_until(lambda: it.ask(f"{waiting} NOT NULL")[0][0] == 1, seconds=60, what="that of the order")
    assert command(site, "resume", "pacs").returncode == 0
    wait_until(
        lambda: not it.ask("SELECT 1 FROM delivery WHERE state <> 'delivered'"), seconds=60, what="all of them"
    )
    begun = it.ask(
        "SELECT order_id FROM delivery JOIN attempt ON attempt.delivery = delivery.id"
        " WHERE destination = 'pacs' ORDER BY began_at DESC LIMIT 7"
    )
    return [row[0] is not None for row in reversed(begun)].index(True)


@pytest.mark.parametrize("share", range(SHARES))
def test_a_machine_is_killed_at_every_waypoint(share, tmp_path, chance):
    with cluster(tmp_path) as it:
        killed, other = it.machines
        it.start(other)
        points = size([("work", point_of(moment)) for moment in chance.sample(SOME, 3)], [])
        for of in size((), ("work", "assoc")):
            points += [(of, point) for point in recorded(it, of, chance, tmp_path / "files")]
        points = points[share::SHARES]
        missed, silent = [], 0
        with Senders([killed], chance, count=1) as senders:
            for number, (of, point) in enumerate(points):
                killed.start(point, of=of)
                if not until_it_stands(killed, senders, tmp_path / "files", 1000 * (number + 1)):
                    missed.append(point)
                silent += number % 2
                it.kill(killed, in_silence=bool(number % 2))
            it.start(killed)
            wait_until(senders.is_idle, seconds=120, what="all was sent")
        wanted = {**senders.wanted, **it.recorded}
        it.until_done(wanted)
        said = check(it, wanted)
        taken_over = [one for one in it.next_attempts() if one is not None]
    report(3, f"killed at each of {len(points)} waypoints, {silent} of them without a word", said)
    report(3, "longest from such a kill to the next attempt", f"{max(taken_over, default=0)} s, load {load()}")
    assert not missed
    assert max(taken_over, default=0) <= LOST_AFTER + 10


def recorded(it: Cluster, of: str, chance: random.Random, files: Path) -> list[str]:
    """Return the points that a machine passes while it works, without those that only its first start passes."""
    machine = it.machines[0]
    machine.start("", of=of)
    wait_until(machine.listens, seconds=60, what="the receivers")
    with Senders([machine], chance) as senders:
        for number in range(12):
            senders.send(small_study(files, len(it.recorded) * 100 + number, 2))
        wait_until(senders.is_idle, seconds=60, what="all was sent")
    it.recorded |= senders.wanted
    it.until_done(it.recorded)
    points = situations(machine.mark)
    it.kill(machine, in_silence=False)
    return [point for point in points if not point.split(" in ")[1].startswith(ONCE)]


def until_it_stands(machine: Machine, senders: Senders, files: Path, first: int) -> bool:
    """Send studies until a command stands at its point; tell whether it does."""
    for number in range(15):
        senders.send(small_study(files, first + number, 1))
        with contextlib.suppress(AssertionError):
            return wait_until(machine.mark.exists, seconds=4)
    return False


def test_both_machines_are_killed_at_once(tmp_path, chance):
    with cluster(tmp_path) as it, Senders(it.machines, chance) as senders:
        for number in range(size(1, 6)):
            it.start(*it.machines)
            for one in range(10):
                senders.send(small_study(tmp_path / "files", 10 * number + one, 2))
            with contextlib.suppress(AssertionError):
                wait_until(lambda: False, seconds=chance.uniform(1, 4))
            killers = [
                threading.Thread(target=it.kill, args=(one,), kwargs={"in_silence": True}) for one in it.machines
            ]
            for killer in killers:
                killer.start()
            for killer in killers:
                killer.join()
        it.start(*it.machines)
        wait_until(senders.is_idle, seconds=120, what="all was sent")
        it.until_done(senders.wanted)
        print(check(it, senders.wanted))
