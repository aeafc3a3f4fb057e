"""Two machines and one disk: the active one dies, the other mounts the disk, starts, and goes on; nothing is lost.

One machine plays both, one after the other. The modalities and the PACS call one port, as they would call the
address that moves with the disk.
"""

import contextlib
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from support.crash.crash_site import CrashSite
from support.crash.hazards import Sender, make_studies, sending
from support.machine.dicom_programs import free_port, wait_until
from support.machine.shared_disk import SharedDisk, shared_disk
from support.peers.archives import dcmqrscp_archive, study
from support.peers.fake_dcm4chee import FakeDcm4chee, Hang
from support.sites.orders_site import OrdersSite, toml_table
from support.sites.running_site import RunningSite, command, running_site
from support.studies.fingerprints import of_files

from pipeline.ledger import FILE_NAME
from pipeline.ledger.tables import arrival
from pipeline.model import OrderState

pytestmark = [pytest.mark.programs, pytest.mark.sqlite_file]

INSTANCES = 8  # of each study
OF_LINE = {"name": "modalities", "ae_title": "STORESTOW", "mode": "study", "quiet_seconds": 1}
OF_ORDERS = {"name": "cdrecord", "ae_title": "CDRECORD", "mode": "association", "coerce": False, "to": []}


def kill_all(up: RunningSite, cut_power: Callable[[], None]) -> None:
    """Stop every process of a machine, let its disk lose what it can, and kill them: none of them can tidy up.

    What starts them is stopped first and killed last, so that it starts none again.
    """
    first = psutil.Process(up.process.pid)
    stopped: list[psutil.Process] = []

    def more() -> list[psutil.Process]:
        return [one for one in {first, *first.children(recursive=True), *up.processes()} if one not in stopped]

    first.suspend()
    stopped.append(first)
    while found := more():
        for one in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.suspend()
        stopped += found
    cut_power()
    for one in reversed(stopped):
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    up.process.wait(60)
    wait_until(lambda: not up.processes(), seconds=60, what="every process of the first machine to be gone")


def arrivals_on(disk: SharedDisk, site: CrashSite, copied_to: Path) -> set[str]:
    """Return the arrivals a ledger knows of, from a copy: the second machine is to be the first to open it."""
    copy = CrashSite(copied_to, site.archive)
    copy.spool.root.mkdir(parents=True)
    for file in disk.folder.glob(f"{FILE_NAME}*"):
        shutil.copy(file, copy.spool.root)
    return {row["name"] for row in copy.rows(arrival)}


@pytest.mark.parametrize("end", ["killed", "power"])
def test_the_other_machine_takes_over(tmp_path: Path, end: str, record_property) -> None:
    receivers = [{**one, "port": free_port()} for one in (OF_LINE, OF_ORDERS)]
    port, orders_port = (int(str(one["port"])) for one in receivers)
    with (
        FakeDcm4chee() as archive,
        dcmqrscp_archive(tmp_path / "qr", orders_port) as pacs,
        shared_disk(tmp_path / "site") as disk,
        contextlib.ExitStack() as until_the_end,
    ):
        site = CrashSite(tmp_path / "site", archive)
        site.filed.mkdir()
        ways = [one["name"] for one in site.destinations]
        about = {
            "receivers": [{**receivers[0], "to": ways}, receivers[1]],
            "destinations": site.destinations,
            "more": toml_table("[pacs]", pacs.table()),
            "site": {"alarm_below": 0, "refuse_below": 0},  # the disk is smaller than the marks
        }
        asked_for = study(tmp_path / "pacs", "ORDER", instances=3)
        pacs.store(*asked_for)
        (tmp_path / "out").mkdir()
        studies = make_studies(tmp_path / "out", 3, INSTANCES)
        senders = [
            Sender(port, files, random.Random(number), tmp_path / f"report-{number}", at_once=at_once)
            for number, (files, at_once) in enumerate(zip(studies, (INSTANCES, 2, 2), strict=True))
        ]
        archive.every_store = Hang()  # it stores, and nobody is told
        disk.attach()
        with running_site(site.folder, **about) as first:
            with sending(senders[:1], seconds=100):
                refused = [command(first.file, *words) for words in (("work",), ("receive", "modalities"))]
                wait_until(lambda: archive.stored, seconds=120, what="a delivery to be in hand")
            orders = OrdersSite(first, tmp_path)
            order = orders.place("ORDER", destination="archive").order_id
            orders.wait_for(order, lambda view: view.received == len(asked_for), seconds=120)
            goes_on = until_the_end.enter_context(sending(senders[1:], seconds=300))
            wait_until(
                lambda: sum(len(one.acknowledged) for one in senders[1:]) > INSTANCES // 3,
                seconds=120,
                what="some to be acknowledged",
            )
            assert orders.view(order).state == OrderState.OPEN
            began = time.monotonic()
            kill_all(first, disk.cut_power if end == "power" else lambda: None)
        acknowledged = set().union(*(one.acknowledged for one in senders))
        archive.every_store = None
        archive.release.set()
        site.let_the_archive_finish()
        asked = len(archive.requests)
        disk.detach()
        disk.attach()
        known = arrivals_on(disk, site, tmp_path / "copy")
        with running_site(site.folder, **about) as second:
            wait_until(lambda: len(archive.requests) > asked, seconds=120, what="the next attempt")
            takeover = time.monotonic() - began
            wait_until(lambda: not goes_on(), seconds=240, what="the modalities to have sent all")
            ended = OrdersSite(second, tmp_path).wait(order, seconds=120)
            wait_until(lambda: site.is_at_rest() and second.is_settled(), seconds=240, what=second.end_of_text())
        can_lose = end == "power" and disk.is_mounted
        sent = of_files(file for files in studies for file in files)
        assert {uid for uid, _ in sent} == set().union(*(one.acknowledged for one in senders))
        admitted = of_files(file for (name, _), file in site.files().items() if name in known)
        assert len(admitted) >= INSTANCES
        delivered = {**site.delivered()}
        ordered = of_files(asked_for)
        assert ordered <= delivered["archive"]
        delivered["archive"] -= ordered
        for name, there in delivered.items():
            assert admitted - ordered <= there <= sent, name
            # What was acknowledged, and neither flushed nor admitted when the power went, the promise leaves out.
            lost = {uid for uid, _ in sent - there}
            assert lost == set() or (can_lose and lost <= acknowledged), (name, lost)
        assert len(list(site.filed.rglob("*.dcm"))) == len(delivered["filed"])
        site.assert_the_archive_has_one_content_of_each()
        assert ended.state == OrderState.DONE
    for done, words in zip(refused, ("another worker is running", "is already running"), strict=True):
        assert done.returncode != 0
        assert words in done.stderr
    how = "power cut, journal played back" if can_lose else "every process killed"
    said = f"takeover {takeover:.1f} s ({how}; {len(acknowledged)} acknowledged, {len(admitted)} admitted)"
    print(said)
    record_property(f"table: takeover, {end}", f"{said}\n{len(sent)} of the line delivered, and the order done")
