"""The pool's processes are killed from outside, as the kernel does when memory is short."""

import random
import threading
import time

import pytest
from support.crash.crash_scene import pixels
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.line_site import all_settled, arrive, instance, rounds, settings_for, states, working

from pipeline.line.prepare import prepare

INSTANCES = 48
EVERY = 6  # instances: more than can be in hand, so that no instance is hit twice


@pytest.mark.parametrize("seed", [1, 2])
def test_processes_killed_while_encoding_cost_nothing(seed, tmp_path, monkeypatch):
    files = [
        instance(tmp_path, f"{number}.dcm", StudyInstanceUID="1.2.3", PixelData=pixels(number))
        for number in range(INSTANCES)
    ]
    chance = random.Random(seed)
    killed: list[int] = []
    with FakeDcm4chee() as archive:
        table = {"name": "archive", "kind": "stow", "url": archive.url, "encode": "j2k"}
        with working(settings_for(tmp_path, destinations=[table], workers=2)) as (site, worker):

            def kill_one() -> None:
                hand = chance.choice(list(site.pool._all))
                time.sleep(chance.random() / 50)
                hand._process.kill()
                killed.append(hand._process.pid)

            reaches = iter(range(1, 10_000))

            real = site.pool.each

            def each(function, *arguments):
                for outcome in real(function, *arguments):
                    yield outcome
                    if function is prepare and next(reaches) % EVERY == 0:
                        threading.Thread(target=kill_one).start()

            monkeypatch.setattr(site.pool, "each", each)
            arrive(site.spool, *files)
            rounds(worker, until=all_settled(site), seconds=120)
            assert states(site, "instances") == {"encoded": INSTANCES}, f"seed {seed}"
            assert len(archive.stored) == INSTANCES
            assert len(killed) == INSTANCES // EVERY
