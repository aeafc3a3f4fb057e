"""Nodes of a cluster on one machine: each with a spool of its own, one store and one ledger for all."""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select
from support.machine.dicom_programs import free_port
from support.sites import ledger_place
from support.sites.line_site import folder_of
from support.sites.running_site import write_site
from support.studies.fingerprints import sha256

from pipeline.ledger import Ledger
from pipeline.ledger.tables import METADATA
from pipeline.spool.spool import Spool

ENDED = {"settled", "quarantined"}


@dataclass
class ClusterSite:
    """The store, where everything goes (a folder), and the nodes."""

    folder: Path

    @property
    def store(self) -> Path:
        return self.folder / "store"

    @property
    def filed(self) -> Path:
        return self.folder / "filed"

    def node(
        self,
        name: str,
        *,
        destinations: list[dict[str, Any]] | None = None,
        receivers: list[dict[str, Any]] | None = None,
        store: Path | None = None,
        more: str = "",
        **site: Any,
    ) -> "ClusterNode":
        """Write the configuration of a node, which differs from that of others in what is the machine's own.

        `store` is where this node has the store mounted, if that is not the folder itself.
        """
        store = store or self.store
        for folder in (self.store, self.filed):
            folder.mkdir(parents=True, exist_ok=True)
        filed = {"name": "filed", "kind": "folder", "folder": str(self.filed)}
        port = free_port()
        receiver = {"name": "modalities", "ae_title": "STORESTOW", "port": port, "quiet_seconds": 1}
        file = write_site(
            self.folder / name,
            receivers=[receiver] if receivers is None else receivers,
            destinations=[filed] if destinations is None else destinations,
            site={"workers": 1, **site},
            more=f'{more}\n[cluster]\nstore = "{store}"\nnode = "{name}"\nlost_after = "15s"\n',
        )
        return ClusterNode(name, file, Spool(self.folder / name / "spool", store), port)

    def rows(self, table: str) -> list[dict[str, Any]]:
        """Return a table of the ledger; there is none before the first worker has started."""
        server = ledger_place.server()
        assert server is not None
        ledger = Ledger(server)
        try:
            with ledger.reading() as look:
                return [dict(row._mapping) for row in look.execute(select(METADATA.tables[table]))]
        finally:
            ledger.close()

    def is_settled(self, count: int) -> bool:
        """Say whether so many arrivals are in the ledger, and each has ended."""
        try:
            found = self.rows("arrival")
        except Exception:  # its tables are being made, or the server does not answer
            return False
        return len(found) >= count and {row["state"] for row in found} <= ENDED

    def contents(self) -> Counter[str]:
        """Return the hashes of the received files that the store holds, each as often as it is there."""
        rooms = Spool(self.folder, self.store).rooms_of_arrivals
        files = [file for room in rooms for file in room.glob("*/CT*")]
        return Counter(sha256(file.read_bytes()) for file in files if not file.parent.name.startswith("."))

    def delivered(self) -> Counter[str]:
        """Return the SOP Instance UIDs of the files at the destination."""
        return Counter(file.stem for file in self.filed.rglob("*.dcm"))


@dataclass
class ClusterNode:
    """One node: what it is called, its site.toml, its rooms, and the port of its receiver.

    `inside` makes a command line one of the node's own machine, as `Machine.inside` of `network` does.
    """

    name: str
    file: Path
    spool: Spool
    port: int
    inside: Callable[..., list[str]] = lambda *words: [*words]

    def arrive(self, *files: Path, age: float = 60.0) -> str:
        """Admit copies of these files as the hook does; return the name in this node's own spool."""
        self.spool.prepare()
        # The sweep of a running worker leaves a hidden folder alone until it is complete.
        folder = folder_of(self.spool, *files, age=age, name=f".{time.time_ns()}")
        name = f"{time.time_ns()}-modalities-{folder.stat().st_ino}"
        folder.rename(self.spool.received / name)
        return name

    def waiting(self) -> Counter[str]:
        """Return the hashes of the files that are still to be handed over."""
        files = self.spool.received.glob("[!.]*/CT*")
        return Counter(sha256(file.read_bytes()) for file in files)
