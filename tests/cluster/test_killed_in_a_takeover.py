"""Who takes over is killed meanwhile, the one that was killed comes back, and sessions of the server end."""

import random

import pytest
from support.machine.dicom_programs import wait_until
from support.sites.acceptance import report, size
from support.sites.machine_cluster import Senders, check, cluster, small_study

pytestmark = pytest.mark.programs
TAKE_OVER = "commit in worker.take_over.take_over"
ENDED = size(12, 200)
END_ONE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE application_name = 'storestow' AND state <> 'idle' ORDER BY random() LIMIT 1"
)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_machine_is_killed_while_it_takes_over_and_the_other_comes_back(moment, tmp_path):
    chance = random.Random()
    with cluster(tmp_path) as it:
        lost, other = it.machines
        it.start(lost)
        other.start(f"{moment} {TAKE_OVER}")
        with Senders([lost], chance) as senders:
            with it.slow_archive():
                for number in range(4):
                    senders.send(small_study(tmp_path / "files", number, 2))
                wait_until(senders.is_idle, seconds=60, what="all was sent")
                wait_until(lambda: it.has_in_hand(lost), seconds=60, what="a delivery in hand")
                it.kill(lost, in_silence=True)
            wait_until(other.mark.exists, seconds=60, what="it takes over")
            lost.start()  # Before the commit it waits for its turn, which the other one has.
            wait_until(lost.listens, seconds=60, what="it is back")
            it.kill(other, in_silence=True)
            it.start(other)
            it.until_done(senders.wanted)
        print(check(it, senders.wanted))


def test_sessions_of_the_server_end_in_the_middle_of_transactions(tmp_path):
    chance = random.Random()
    with cluster(tmp_path) as it:
        it.start(*it.machines)
        ended = 0
        with Senders(it.machines, chance) as senders:
            for number in range(ENDED):
                if number % 2:
                    senders.send(small_study(tmp_path / "files", number, chance.randint(1, 3)))
                ended += wait_until(lambda: len(it.ask(END_ONE)), seconds=60, what="a session at work")
            wait_until(senders.is_idle, seconds=120, what="all was sent")
            it.until_done(senders.wanted)
        report(3, f"{ended} sessions of the server ended within transactions", check(it, senders.wanted))
