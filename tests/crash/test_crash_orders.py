"""SIGKILL at every named point of an order, then a restart: it is done, once, with everything asked for."""

import contextlib
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest
from archives import OUR_AE_TITLE, Archive, dcmqrscp_archive, study
from crash_site import NOWHERE
from dicom_programs import free_port, running, stop, wait_until
from forking import Forked
from orders_site import toml_table
from running_site import COMMAND, NULL, write_site
from sqlalchemy import select

from pipeline.accession import AccessionNumber
from pipeline.ledger import FILE_NAME, Ledger
from pipeline.ledger.tables import delivery, receipt
from pipeline.model import OrderState
from pipeline.orders import OrderView, place, view
from pipeline.settings import load

pytestmark = pytest.mark.programs

OF_AN_ORDER = (
    "order-found",
    "order-attached",
    "order-listed",
    "order-queued",
    "retrieval-started",
    "retrieval-sent",
    "retrieval-finished",
    "retrieval-ended",
    "order-prepared",
    "order-consigning",
    "order-consigned",
    "order-ended",
)


@dataclass
class Stage:
    """A spool with its receiver running, and a worker to be killed."""

    folder: Path
    archive: Archive
    file: Path

    @property
    def log(self) -> Path:
        return self.folder / "work.log"

    @property
    def shelf(self) -> Path:
        return self.folder / "shelf"

    def start(self, *words: str, point: str = NOWHERE) -> Forked:
        return Forked({"point": point, "log": str(self.log), "words": ["--site", str(self.file), *words]})

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        ledger = Ledger(self.folder / "spool" / FILE_NAME)
        try:
            yield ledger
        finally:
            ledger.close()

    def place(self, accession: str) -> int:
        with self.ledger() as ledger:
            wanted = [AccessionNumber(accession)]
            return place(ledger, load(self.file), verb="retrieve", accessions=wanted, destination="shelf").order_id

    def view(self, number: int) -> OrderView:
        with self.ledger() as ledger, ledger.reading() as look:
            found = view(look, number)
        assert found is not None
        return found

    def killed(self, *words: str, point: str) -> None:
        process = self.start(*words, point=point)
        try:
            wait_until(lambda: process.poll() is not None, seconds=60, what=f"{point}: {self.text()}")
        finally:
            code = stop(process)
        assert code == -signal.SIGKILL, f"{point}: ended with {code}\n{self.text()}"

    def work_until_ended(self, number: int) -> OrderView:
        process = self.start("work")
        try:
            wait_until(lambda: self.view(number).ended_at, seconds=60, what=f"{self.view(number)} {self.text()}")
        finally:
            stop(process)
        return self.view(number)

    def sent(self, number: int) -> list[tuple[str, bool]]:
        """Return state and verification of every receipt of an order, over all its deliveries."""
        wanted = select(receipt.c.state, receipt.c.verified).join(delivery, delivery.c.id == receipt.c.delivery)
        with self.ledger() as ledger, ledger.reading() as look:
            return [tuple(row) for row in look.execute(wanted.where(delivery.c.order_id == number))]

    def on_the_shelf(self) -> set[str]:
        return {file.stem for file in self.shelf.rglob("*.dcm")}

    def text(self) -> str:
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("crash-orders")
    port = free_port()
    (folder / "shelf").mkdir()
    with dcmqrscp_archive(folder / "archive", port) as archive:
        receiver = {"name": "cdrecord", "ae_title": OUR_AE_TITLE, "port": port, "mode": "association"}
        file = write_site(
            folder,
            receivers=[{**receiver, "quiet_seconds": 1, "coerce": False, "to": []}],
            destinations=[{"name": "shelf", "kind": "folder", "folder": str(folder / "shelf")}, NULL],
            site={"workers": 1},
            more=toml_table("[pacs]", archive.table()),
        )
        one = Stage(folder, archive, file)
        with running([*COMMAND, "--site", file, "receive", "cdrecord"], log=folder / "receive.log", port=port):
            worker = one.start("work")
            try:
                wait_until(lambda: "worker-started" in one.text(), seconds=60, what=one.text())
            finally:
                stop(worker)
            yield one


@pytest.mark.parametrize("point", OF_AN_ORDER)
def test_a_worker_killed_in_the_middle_of_an_order_goes_on_with_it(stage, point, tmp_path):
    accession = f"K{OF_AN_ORDER.index(point)}"
    files = study(tmp_path, accession, series=2, instances=2)
    stage.archive.store(*files)
    number = stage.place(accession)
    stage.killed("work", point=point)
    ended = stage.work_until_ended(number)
    assert (ended.state, ended.expected, ended.received, ended.sent) == (OrderState.DONE, 4, 4, 4), stage.text()
    assert stage.sent(number) == [("stored", True)] * 4
    assert {str(pydicom.dcmread(file).SOPInstanceUID) for file in files} <= stage.on_the_shelf()
    assert not [left for left in (stage.folder / "spool/run").iterdir() if left.name.startswith("query-")]


def test_a_command_killed_while_it_places_has_placed_nothing(stage):
    stage.killed("retrieve", "PLACING", "--to", "shelf", point="order-placing")
    with stage.ledger() as ledger, ledger.reading() as look:
        numbers = [
            number for number in range(1, 40) if (one := view(look, number)) and "PLACING" in one.accessions
        ]
    assert not numbers


@pytest.mark.parametrize("point", ["send-copied", "send-admitted"])
def test_files_a_dead_send_had_copied_go_their_way(stage, point, tmp_path):
    files = study(tmp_path, "SENT", instances=2)
    stage.killed("send", *map(str, files), "--to", "shelf", point=point)
    with stage.ledger() as ledger, ledger.reading() as look:
        number = max(number for number in range(1, 60) if view(look, number))
    ended = stage.work_until_ended(number)
    assert (ended.verb, ended.state, ended.sent) == ("send", OrderState.DONE, 2)
