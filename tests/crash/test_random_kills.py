"""Parts of a whole site are killed at random while modalities send: what was acknowledged is delivered."""

import itertools
import random
import time
from collections import Counter
from pathlib import Path

import pytest
from support.crash.crash_site import CrashSite
from support.crash.hazards import Killer, Sender, make_studies, nursed, sending
from support.machine.dicom_programs import free_port, wait_until
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.running_site import RunningSite, running_site, write_site
from support.studies.fingerprints import of_files

from pipeline.ledger.tables import instance

RECEIVERS = [
    {"name": "study", "ae_title": "STORESTOW", "mode": "study", "quiet_seconds": 1},
    {"name": "association", "ae_title": "STORESTOW2", "mode": "association", "quiet_seconds": 1},
]
KILLS = 500  # of the long run
HIT_TWICE = "the process that had it in hand died twice: SIGKILL"


def senders(site: RunningSite, studies: list[list[Path]], folder: Path, seed: int, **keys: float) -> list[Sender]:
    ports = list(site.ports.values())
    return [
        Sender(ports[number % 2], files, random.Random(seed + number), folder / f"report-{number}", **keys)
        for number, files in enumerate(studies)
    ]


def assert_nothing_was_lost(site: CrashSite, studies: list[list[Path]], acknowledged: set[str]) -> str:
    """Compare what was acknowledged with what was delivered or set aside; return the count of everything."""
    sent = of_files(file for study in studies for file in study)
    assert {uid for uid, _ in sent} == acknowledged, "not everything could be sent"
    rows, files = site.rows(instance), site.files()
    assert {row["state"] for row in rows} <= {"encoded", "duplicate", "quarantined"}
    reasons = Counter(kind_of(row) for row in rows if row["state"] == "quarantined")
    aside = of_files(
        files[row["arrival"], row["file"]]
        for row in rows
        if row["state"] == "quarantined" and kind_of(row) == HIT_TWICE
    )
    for name, delivered in site.delivered().items():
        assert delivered | aside == sent, name
        assert not delivered & aside, name
    site.assert_the_ledger_agrees_with_the_rooms()
    site.assert_the_archive_has_one_content_of_each()
    site.assert_accounts_are_valid()
    if HIT_TWICE not in reasons:  # what was made of such an arrival is kept for `release`
        of_receivers = {"study.lock", "study.profile", "study.log.cfg", "study.objects.log", "association.lock"}
        site.assert_nothing_temporary_is_left(of_receivers=of_receivers)
    states = Counter(row["state"] for row in rows)
    return (
        f"{len(sent)} instances, {len(site.archive.received)} sent to the archive, {dict(states)} {dict(reasons)}"
    )


def kind_of(row: dict) -> str:
    """Return why a file was set aside: it was cut before it was acknowledged, or its process was hit twice."""
    if row["reason"].startswith(HIT_TWICE):
        return HIT_TWICE
    assert "truncated" in row["reason"] or "too early" in row["reason"], row["reason"]
    return "cut"


@pytest.mark.programs
def test_what_was_acknowledged_is_delivered_whoever_dies(tmp_path):
    seed = random.SystemRandom().randrange(10_000)
    print(f"seed {seed}")
    studies = make_studies(tmp_path, 4, 16)
    with FakeDcm4chee() as archive:
        site = CrashSite(tmp_path / "site", archive)
        site.filed.mkdir(parents=True)
        most = Counter(worker=2, receiver=2, storescp=3, pool=3)  # `up` waits longer before each restart
        with running_site(site.folder, receivers=RECEIVERS, destinations=site.destinations) as up:
            modalities = senders(up, studies, tmp_path, seed)
            killer = Killer(up, random.Random(seed), most)
            with sending(modalities, seconds=150) as goes_on:
                killer.run(lambda: goes_on() or not site.is_at_rest(), every=0.5)
            acknowledged = set().union(*(one.acknowledged for one in modalities))
            up.wait_settled(seconds=100)
        counts = assert_nothing_was_lost(site, studies, acknowledged)
        print(f"{dict(killer.kills)} kills, {counts}")
        assert killer.kills.total() >= 5, killer.kills  # a quick machine is done sooner


@pytest.mark.programs
@pytest.mark.long
def test_five_hundred_kills_lose_nothing_of_five_thousand_instances(tmp_path):
    seed = random.SystemRandom().randrange(10_000)
    print(f"seed {seed}")
    began = time.monotonic()
    studies = make_studies(tmp_path, 40, 125)
    ports = {str(one["name"]): free_port() for one in RECEIVERS}
    receivers = [{**one, "port": ports[str(one["name"])]} for one in RECEIVERS]
    with FakeDcm4chee() as archive:
        site = CrashSite(tmp_path / "site", archive)
        site.filed.mkdir(parents=True)
        file = write_site(site.folder, receivers=receivers, destinations=site.destinations)
        site.spool.prepare()
        most = Counter(worker=120, receiver=110, storescp=150, pool=140)
        with nursed(site.folder, file, ports) as (up, nurse):
            killer = Killer(up, random.Random(seed), most)
            batches = [studies[at : at + 8] for at in range(0, len(studies), 8)]
            acknowledged: set[str] = set()
            for number, batch in enumerate(itertools.cycle(batches)):
                if number >= len(batches) and killer.kills.total() >= KILLS:
                    break  # a quick machine is sent some once more
                share = min(1.0, (number + 1) / len(batches))  # so that the kills are spread over all that is sent
                killer.most = Counter({kind: round(share * count) for kind, count in most.items()})
                modalities = senders(up, batch, tmp_path, seed + 100 * number, at_once=4, pause=3.0)
                with sending(modalities, seconds=1800) as goes_on:
                    killer.run(goes_on, every=0.6, tend=nurse.tend)
                    while goes_on():
                        nurse.tend()
                        time.sleep(0.05)
                acknowledged |= set().union(*(one.acknowledged for one in modalities))
            wait_until(lambda: (nurse.tend(), site.is_at_rest(), up.is_settled())[1:] == (True, True), seconds=600)
            up.wait_settled(seconds=60)
        counts = assert_nothing_was_lost(site, studies, acknowledged)
        print(f"{dict(killer.kills)} kills in {time.monotonic() - began:.0f} s, {counts}")
        assert killer.kills.total() >= KILLS, killer.kills
