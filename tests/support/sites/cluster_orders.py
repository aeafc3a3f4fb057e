"""Nodes of a cluster that serve orders: each receives and serves HTTP, and all share the folder of discs."""

import contextlib
import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import requests
from support.machine.dicom_programs import free_port, listens, wait_until
from support.peers.archives import OUR_AE_TITLE
from support.sites.cluster_site import ClusterNode, ClusterSite
from support.sites.orders_site import toml_table
from support.sites.running_nodes import Running
from support.sites.shim_site import BROWSER

JSON = {"Accept": "application/json"}


@dataclass
class OrdersNode:
    """A node with its ports, and what it is asked over HTTP."""

    node: ClusterNode
    ports: dict[str, int]
    http: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http}"

    def start(self, commands: Running, *what: str) -> None:
        """Start commands of it ("work", "serve", and receivers by their names), and wait until they are up."""
        for word in what:
            commands.start(self.node, *(["receive", word] if word in self.ports else [word]))
        for word in what:
            port = self.ports.get(word, self.http if word == "serve" else None)
            if port is not None:
                wait_until(functools.partial(listens, port), seconds=60, what=f"{self.node.name}: {word}")

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(urljoin(self.url, path), timeout=60, **options)

    def health(self, query: str = "") -> int:
        """Return the status of the health, 0 while nobody answers."""
        with contextlib.suppress(requests.RequestException):
            return self.get(f"/api/health{query}").status_code
        return 0

    def place(self, link: str, accession: str) -> str:
        """Follow a link as a browser does; return the order's reference."""
        answer = self.get(f"/{link}?accession_number={accession}", headers=BROWSER, allow_redirects=False)
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"].partition("order=")[2].partition("&")[0]

    def order(self, reference: str) -> dict[str, Any]:
        """Return what the node says of an order to a program."""
        answer = self.get(f"/orders/{reference}", headers=JSON)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found


def orders_node(
    site: ClusterSite,
    name: str,
    pacs: Mapping[str, Any],
    *,
    destinations: Sequence[Mapping[str, Any]] = (),
    door: int | None = None,
) -> OrdersNode:
    """Write the configuration of a node in association mode, to whose port `door` the PACS sends."""
    discs = Path(site.folder / "discs")
    discs.mkdir(parents=True, exist_ok=True)
    disc = {"name": "disc", "kind": "iso", "folder": str(discs)}
    filed = {"name": "filed", "kind": "folder", "folder": str(site.filed)}
    ports = {"modalities": free_port(), "cdrecord": door or free_port()}
    common = {"mode": "association", "quiet_seconds": 1}
    receivers = [
        {"name": "modalities", "ae_title": "STORESTOW", "port": ports["modalities"], "to": ["filed"], **common},
        {"name": "cdrecord", "ae_title": OUR_AE_TITLE, "port": ports["cdrecord"], "to": [], "coerce": False}
        | common,
    ]
    http = free_port()
    more = toml_table("[pacs]", pacs) + toml_table("[shim]", {"port": http, "download": "disc"})
    node = site.node(name, receivers=receivers, destinations=[filed, disc, *destinations], more=more)
    return OrdersNode(node, ports, http)
