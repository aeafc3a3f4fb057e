"""A site whose one destination makes discs of studies, delivery by delivery as the situation needs them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import select
from support.sites.line_site import RECEIVER, arrive, rounds, settings_for

from pipeline.ledger import destination_states
from pipeline.ledger.tables import delivery, receipt
from pipeline.line.deliver import DueDelivery, deliver
from pipeline.line.verify import verify
from pipeline.site.settings import Settings
from pipeline.site.site import Site
from pipeline.worker.worker import Worker


def settings(folder: Path, *, receivers: Sequence[Any] = (), **more: Any) -> Settings:
    """Return a site that makes discs in `folder` of what its receiver takes, uncoerced."""
    disc = {"name": "burner", "kind": "iso", "folder": str(folder), **more}
    receiver = {**RECEIVER, "to": ["burner"], "coerce": False}
    return settings_for(folder.parent, destinations=[disc], receivers=[receiver, *receivers])


def visible(folder: Path) -> list[str]:
    """Return the names that anybody sees in the folder."""
    return sorted(one.name for one in folder.iterdir() if not one.name.startswith("."))


def hidden(folder: Path) -> list[str]:
    """Return what is left of attempts."""
    return sorted(one.name for one in (folder / ".storestow").iterdir())


def tables(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the result of each disc by its name, the earlier first."""
    names = sorted(folder.glob("*.json"), key=lambda path: (len(path.name), path.name))
    return {one.stem: json.loads(one.read_text()) for one in names}


def discs(folder: Path) -> list[tuple[int, str | None]]:
    """Return how many instances each disc holds, and the name of the one it replaces."""
    found = tables(folder).values()
    return [(len(one["instances"]), one["replaces"] and one["replaces"]["disc"]) for one in found]


def pause(site: Site, *, paused: bool = True) -> None:
    """Let the worker attempt nothing at the destination, or go on."""
    with site.ledger.transaction() as change:
        destination_states.change_row(change, "burner", paused=paused)


def rows(site: Site) -> Sequence[Any]:
    """Return the deliveries."""
    with site.ledger.reading() as look:
        return list(look.execute(select(delivery).order_by(delivery.c.id)))


def receipts(site: Site) -> Sequence[Any]:
    """Return the receipts."""
    with site.ledger.reading() as look:
        return list(look.execute(select(receipt).order_by(receipt.c.delivery, receipt.c.instance)))


def consigned(site: Site, worker: Worker, *files: Path) -> int:
    """Let files arrive while nothing is attempted; return the delivery that is opened for them."""
    before = len(rows(site))
    pause(site)
    arrive(site.spool, *files)
    rounds(worker, until=lambda: len(rows(site)) > before)
    return rows(site)[-1].id


def attempted(site: Site, number: int) -> Any:
    """Attempt a delivery here and now, although its destination may have failed just before; return its row."""
    with site.ledger.transaction() as connection:
        destination_states.change_row(connection, "burner", try_at=0.0)
    due = DueDelivery(number, site.settings.destination_named("burner"))
    verify(deliver(due, site), site)
    return rows(site)[number - 1]
