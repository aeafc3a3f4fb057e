"""Parts of a site are killed at random while modalities send and orders are under way: nothing is lost."""

import contextlib
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from support.crash.crash_site import CrashSite
from support.crash.hazards import Killer, Sender, make_studies, nursed, sending
from support.machine.dicom_programs import free_port, wait_until
from support.peers.archives import Archive, dcmqrscp_archive, study
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.orders_site import OrdersSite, toml_table
from support.sites.running_site import RunningSite, write_site
from support.studies.fingerprints import of_files

from pipeline.errors import Transient
from pipeline.ledger.tables import instance
from pipeline.model import OrderState

SENDERS, ORDERS = 5, 12
RECEIVERS = [
    {"name": "study", "ae_title": "STORESTOW", "mode": "study", "quiet_seconds": 1},
    {"name": "association", "ae_title": "STORESTOW2", "mode": "association", "quiet_seconds": 1},
]
OF_ORDERS = {
    "name": "cdrecord",
    "ae_title": "CDRECORD",
    "mode": "association",
    "quiet_seconds": 1,
    "coerce": False,
    "to": [],
}


def site_file(site: CrashSite, ports: dict[str, int], pacs: Archive) -> Path:
    """Write a site of two lines to three destinations, and of orders to a shelf of their own."""
    shelf = site.folder / "shelf"
    shelf.mkdir()
    ways = [one["name"] for one in site.destinations]
    line = [{**one, "port": ports[str(one["name"])], "to": ways} for one in RECEIVERS]
    return write_site(
        site.folder,
        receivers=[*line, {**OF_ORDERS, "port": ports["cdrecord"]}],
        destinations=[*site.destinations, {"name": "shelf", "kind": "folder", "folder": str(shelf)}],
        more=toml_table("[pacs]", pacs.table()),
    )


def senders(up: RunningSite, studies: list[list[Path]], folder: Path, seed: int) -> list[Sender]:
    ports = [up.ports[str(one["name"])] for one in RECEIVERS]
    return [
        Sender(ports[number % 2], files, random.Random(seed + number), folder / f"report-{number}", at_once=4)
        for number, files in enumerate(studies)
    ]


class Asker:
    """Somebody at the HIS: asks for each accession number, and again where the order did not end well."""

    def __init__(self, site: OrdersSite, accessions: list[str]) -> None:
        self.site, self.left = site, dict.fromkeys(accessions)
        self.asked = 0

    def look(self) -> None:
        """Place what is not placed, and forget what has been delivered."""
        for accession, number in list(self.left.items()):
            with contextlib.suppress(Transient):  # the ledger may be locked by a worker that is just killed
                if number is None:
                    self.left[accession] = self.site.place(accession).order_id
                    self.asked += 1
                    return
                view = self.site.view(number)
                if view.state == OrderState.DONE:
                    del self.left[accession]
                elif view.ended_at:
                    self.left[accession] = None


def killed_at_random(folder: Path, kills: int, instances: int, most: Counter[str]) -> str:
    """Run everything, kill `kills` times, and hold what was delivered against what was sent; return the counts.

    Senders and askers begin again with new studies until as many were killed: a quick machine is done sooner.
    """
    seed = random.SystemRandom().randrange(10_000)
    print(f"seed {seed}")
    began = time.monotonic()
    ports = {str(one["name"]): free_port() for one in (*RECEIVERS, OF_ORDERS)}
    sent: list[list[Path]] = []
    asked_for: list[list[Path]] = []
    acknowledged: set[str] = set()
    with (
        FakeDcm4chee() as archive,
        dcmqrscp_archive(folder / "qr", ports["cdrecord"]) as pacs,
    ):
        site = CrashSite(folder / "site", archive)
        site.filed.mkdir(parents=True)
        file = site_file(site, ports, pacs)
        site.spool.prepare()
        with nursed(site.folder, file, ports) as (up, nurse):
            wait_until(
                lambda: "worker-started" in up.text(), seconds=60, what="the worker, which makes the ledger"
            )
            orders = OrdersSite(up, site.folder / "shelf")
            killer, placed = Killer(up, random.Random(seed), most), 0
            while killer.kills.total() < kills and not killer.is_done():
                number = len(sent) // SENDERS
                (folder / f"round-{number}").mkdir()
                studies = make_studies(folder / f"round-{number}", SENDERS, instances)
                wanted = [
                    study(folder / "pacs", f"ORDER{number}-{one}", instances=3, patient=f"P{one}")
                    for one in range(ORDERS)
                ]
                for files in wanted:
                    pacs.store(*files)
                asker = Asker(orders, [f"ORDER{number}-{one}" for one in range(ORDERS)])
                modalities = senders(up, studies, folder, seed + number)

                def tend(asker: Asker = asker) -> None:
                    nurse.tend()
                    asker.look()

                with sending(modalities, seconds=600) as goes_on:
                    killer.run(lambda: goes_on() or bool(asker.left), every=0.8, tend=tend)  # noqa: B023  # at once
                    at_rest(tend, lambda: not goes_on() and not asker.left, "senders and orders")  # noqa: B023
                acknowledged |= set().union(*(one.acknowledged for one in modalities))
                sent, asked_for, placed = [*sent, *studies], [*asked_for, *wanted], placed + asker.asked
            at_rest(nurse.tend, lambda: site.is_at_rest() and up.is_settled(), "the site")
        assert_the_line_lost_nothing(site, sent, acknowledged)
        delivered = of_files(orders.delivered())
        assert delivered == of_files(one for files in asked_for for one in files)
        assert killer.kills.total() >= kills
        return (
            f"{dict(killer.kills)} kills in {time.monotonic() - began:.0f} s; {len(acknowledged)} instances to "
            f"3 destinations, {len(asked_for)} orders placed {placed} times, {len(delivered)} instances of them"
        )


def at_rest(tend: Callable[[], None], is_done: Callable[[], bool], what: str) -> None:
    def looked() -> bool:
        tend()
        return is_done()

    wait_until(looked, seconds=400, what=what)


def assert_the_line_lost_nothing(site: CrashSite, studies: list[list[Path]], acknowledged: set[str]) -> None:
    sent = of_files(file for files in studies for file in files)
    assert {uid for uid, _ in sent} == acknowledged, "not everything could be sent"
    aside = of_files(
        site.files()[row["arrival"], row["file"]]
        for row in site.rows(instance)
        if row["state"] == "quarantined" and "died twice" in (row["reason"] or "")
    )
    for name, delivered in site.delivered().items():
        # What came for orders may be in the archive, or set aside, too.
        of_line = {one for one in delivered | aside if one[0] in acknowledged}
        assert of_line == sent, name
    site.assert_the_archive_has_one_content_of_each()


@pytest.mark.programs
def test_orders_and_the_line_go_on_whoever_dies(tmp_path):
    print(killed_at_random(tmp_path, 6, 6, Counter(worker=3, receiver=2, storescp=2, pool=3)))


@pytest.mark.programs
@pytest.mark.long
def test_sixty_kills_lose_nothing_of_five_senders_and_of_orders(tmp_path):
    print(killed_at_random(tmp_path, 60, 60, Counter(worker=15, receiver=15, storescp=15, pool=15)))
