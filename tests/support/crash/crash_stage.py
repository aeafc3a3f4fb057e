"""A spool with its receiver of orders, a PACS, and a worker that is killed in the middle of what was asked for."""

import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import select
from support.crash.crash_site import NOWHERE
from support.crash.forking import Forked
from support.machine.dicom_programs import free_port, running, stop, wait_until
from support.peers.archives import OUR_AE_TITLE, Archive, dcmqrscp_archive
from support.sites.orders_site import toml_table
from support.sites.running_site import COMMAND, NULL, write_site

from pipeline.dicom.accession import AccessionNumber
from pipeline.ledger import FILE_NAME, Ledger
from pipeline.ledger.tables import delivery, receipt
from pipeline.orders import OrderView, place, view
from pipeline.site.settings import load


@dataclass
class Stage:
    """A spool with its receiver running, and a worker to be killed."""

    folder: Path
    archive: Archive
    file: Path
    port: int
    destinations: Sequence[Mapping[str, Any]] = ()
    pacs: Mapping[str, Any] = field(default_factory=dict)
    programs: Mapping[str, Path] = field(default_factory=dict)

    def configure(self, **site: Any) -> None:
        """Write the configuration, with these keys of [site]."""
        receiver = {"name": "cdrecord", "ae_title": OUR_AE_TITLE, "port": self.port, "mode": "association"}
        write_site(
            self.folder,
            receivers=[{**receiver, "quiet_seconds": 1, "coerce": False, "to": []}],
            destinations=[
                {"name": "shelf", "kind": "folder", "folder": str(self.shelf)},
                NULL,
                *self.destinations,
            ],
            site={"workers": 1, **site},
            more=toml_table("[pacs]", self.archive.table(**self.pacs)),
        )
        lines = [f'{name} = "{path}"' for name, path in self.programs.items()]
        self.file.write_text(self.file.read_text().replace("[programs]", "\n".join(["[programs]", *lines])))

    @property
    def log(self) -> Path:
        return self.folder / "work.log"

    @property
    def shelf(self) -> Path:
        return self.folder / "shelf"

    def start(self, *words: str, point: str = NOWHERE, **how: Any) -> Forked:
        about = {"point": point, "log": str(self.log), "words": ["--site", str(self.file), *words]}
        return Forked({**how, **about})

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        ledger = Ledger(self.folder / "spool" / FILE_NAME)
        try:
            yield ledger
        finally:
            ledger.close()

    def place(self, accession: str, destination: str = "shelf") -> int:
        with self.ledger() as ledger:
            wish = {"accessions": [AccessionNumber(accession)], "destination": destination}
            return place(ledger, load(self.file), verb="retrieve", **wish).order_id

    def view(self, number: int) -> OrderView:
        with self.ledger() as ledger, ledger.reading() as look:
            found = view(look, number)
        assert found is not None
        return found

    def killed(self, *words: str, point: str = NOWHERE, **how: Any) -> None:
        process = self.start(*words, point=point, **how)
        try:
            wait_until(lambda: process.poll() is not None, seconds=60, what=f"{point}: {self.text()}")
        finally:
            code = stop(process)
        assert code == -signal.SIGKILL, f"{point}: ended with {code}\n{self.text()}"

    def died(self, number: int, point: str) -> bool:
        """Run a worker until the order has ended or it is killed at the point; say whether it was."""
        process = self.start("work", point=point)
        try:
            wait_until(lambda: process.poll() is not None or self.view(number).ended_at, seconds=60, what=point)
        finally:
            code = stop(process)
        assert code in {0, -signal.SIGKILL}, f"{point}: ended with {code}\n{self.text()}"
        return code == -signal.SIGKILL

    def work_until_ended(self, number: int, **how: Any) -> OrderView:
        process = self.start("work", **how)
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

    def work_until(self, condition: Callable[[], object]) -> None:
        """Run a worker from its start until this is true."""
        process = self.start("work")
        try:
            wait_until(condition, seconds=60, what=self.text())
        finally:
            stop(process)

    def on_the_shelf(self) -> set[str]:
        return {file.stem for file in self.shelf.rglob("*.dcm")}

    def text(self) -> str:
        return self.log.read_text(errors="replace")[-6000:] if self.log.exists() else ""


@contextlib.contextmanager
def crash_stage(
    folder: Path,
    *,
    destinations: Sequence[Mapping[str, Any]] = (),
    pacs: Mapping[str, Any] | None = None,
    programs: Mapping[str, Path] | None = None,
    with_receiver: bool = True,
) -> Iterator[Stage]:
    """Set up a stage below `folder`; its receiver runs, unless it is not wanted, its worker has run once."""
    port = free_port()
    (folder / "shelf").mkdir(parents=True)
    with dcmqrscp_archive(folder / "archive", port) as archive, contextlib.ExitStack() as stack:
        one = Stage(folder, archive, folder / "site.toml", port, destinations, pacs or {}, programs or {})
        one.configure()
        if with_receiver:
            argv = [*COMMAND, "--site", one.file, "receive", "cdrecord"]
            stack.enter_context(running(argv, log=folder / "receive.log", port=port))
        one.work_until(lambda: "worker-started" in one.text())
        yield one
