"""A whole site that retrieves: its receiver of orders, a PACS it asks, and destinations that show what came."""

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.machine.dicom_programs import free_port, wait_until
from support.peers.archives import OUR_AE_TITLE, Archive
from support.sites import ledger_place
from support.sites.running_site import RunningSite, running_site

from pipeline.dicom.accession import AccessionNumber
from pipeline.ledger import Ledger
from pipeline.orders import OrderView, PlacedOrder, place, view
from pipeline.site.settings import Settings, load

NULL = {"name": "nowhere", "kind": "null"}


def toml_table(head: str, keys: Mapping[str, Any]) -> str:
    from support.sites.running_site import _table

    return _table(head, keys)


@dataclass
class OrdersSite:
    """A running site that places orders in this process and looks at them."""

    up: RunningSite
    shelf: Path

    @property
    def settings(self) -> Settings:
        return load(self.up.file)

    @contextlib.contextmanager
    def ledger(self) -> Iterator[Ledger]:
        ledger = ledger_place.ledger_of(self.up.spool.root)
        try:
            yield ledger
        finally:
            ledger.close()

    def place(
        self, *accessions: str, destination: str = "shelf", verb: str = "retrieve", **wish: Any
    ) -> PlacedOrder:
        with self.ledger() as ledger:
            wanted = [AccessionNumber.parse(one) for one in accessions]
            return place(ledger, self.settings, verb=verb, accessions=wanted, destination=destination, **wish)

    def view(self, number: int) -> OrderView:
        with self.ledger() as ledger:
            return _view(ledger, number)

    def wait(self, number: int, *, seconds: float = 60) -> OrderView:
        """Return the order once it has ended."""
        return self.wait_for(number, lambda one: one.ended_at, seconds=seconds)

    def wait_for(self, number: int, condition: Callable[[OrderView], object], *, seconds: float = 60) -> OrderView:
        """Return the first view of which the condition holds."""
        try:
            with self.ledger() as ledger:  # opened once: opening it takes longer than looking

                def there() -> OrderView | None:
                    one = _view(ledger, number)
                    return one if condition(one) else None

                return wait_until(there, seconds=seconds)
        except AssertionError as error:  # as it is when time is up, not as it was
            raise AssertionError(f"{error}: order {number}: {self.view(number)}\n{self.up.text()}") from None

    def order(self, *accessions: str, **wish: Any) -> OrderView:
        """Place an order and return it once it has ended."""
        return self.wait(self.place(*accessions, **wish).order_id)

    def delivered(self) -> list[Path]:
        return sorted(self.shelf.rglob("*.dcm"))


def _view(ledger: Ledger, number: int) -> OrderView:
    with ledger.reading() as look:
        found = view(look, number)
    assert found is not None
    return found


@contextlib.contextmanager
def orders_site(
    folder: Path,
    archive: Archive,
    port: int,
    *,
    destinations: Sequence[Mapping[str, Any]] = (),
    receivers: Sequence[Mapping[str, Any]] = (),
    shim: Mapping[str, Any] | None = None,
    pacs: Mapping[str, Any] | None = None,
    receiver: Mapping[str, Any] | None = None,
    site: Mapping[str, Any] | None = None,
    patients: Mapping[str, Any] | None = None,
) -> Iterator[OrdersSite]:
    """Run a site whose receiver of orders listens on `port`, where the archive sends to."""
    shelf = folder / "shelf"
    shelf.mkdir(parents=True, exist_ok=True)
    ours = {
        "name": "cdrecord",
        "ae_title": OUR_AE_TITLE,
        "port": port,
        "mode": "association",
        "quiet_seconds": 1,
        "coerce": False,
        "to": [],
        **(receiver or {}),
    }
    tables = [toml_table("[pacs]", archive.table(**(pacs or {})))]
    if shim is not None:
        tables.append(toml_table("[shim]", {"port": free_port(), **shim}))
    if patients is not None:
        tables.append(toml_table("[patients]", patients))
    with running_site(
        folder,
        receivers=[ours, *receivers],
        destinations=[{"name": "shelf", "kind": "folder", "folder": str(shelf)}, NULL, *destinations],
        site=site,
        more="\n".join(tables),
    ) as up:
        yield OrdersSite(up, shelf)
