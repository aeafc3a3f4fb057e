"""A shim for a test: the real application on a real port, over orders the test moves on by hand.

The worker is left out. `FakeOrders` stands in the place of `pipeline.orders`: it shares as that does, and a
test says how an order stands by `change`.
"""

import contextlib
import dataclasses
import html
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
import requests
import uvicorn
from support.machine.dicom_programs import free_port, wait_until
from support.sites.beating import beating

from pipeline import orders
from pipeline.ledger import open_ledger, order_queries
from pipeline.model import OrderStage, OrderState
from pipeline.orders import FoundStudy, MadeFile, OrderView, PlacedOrder, TooManyOrders
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool
from pipeline.web.app import application
from pipeline.web.client_connection import ClientConnection
from pipeline.web.shim_site import opened

KEY = "a-key-nobody-would-guess"
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
NEW = OrderView(
    id=0,
    verb="download",
    accessions=(),
    modalities=(),
    destination="disc",
    container="",
    missing_allowed=False,
    incomplete_allowed=False,
    state=OrderState.OPEN,
    stage=OrderStage.PLACED,
    place_in_queue=None,
    error_kind=None,
    error=None,
    detail=None,
    found=(),
    missing=(),
    expected=None,
    received=0,
    failed=0,
    sent=0,
    sent_before=0,
    refused=0,
    result=None,
    late=0,
    created_at=1_763_721_000.25,
    last_progress_at=0.0,
    ended_at=None,
    already_sent=False,
)
FOUND = (FoundStudy("1.2.3", "A1", 3, ("CT", "SR"), 812),)


class FakeOrders:
    """Orders in memory; `plan` is what becomes of every new one, at once."""

    def __init__(self) -> None:
        self.views: dict[int, OrderView] = {}
        self.asked: list[dict[str, Any]] = []
        self.plan: dict[str, Any] = {}
        self.files_made = 1
        self.lock = threading.Lock()

    def place(
        self, _ledger: Any, settings: Settings, *, limit: Any = None, again: bool = False, **wish: Any
    ) -> PlacedOrder:
        with self.lock:
            self.asked.append({**wish, "again": again, "same_link": settings.shim.same_link})
            for number, view in self.views.items():
                if _serves(view, wish, again=again):
                    return PlacedOrder(number, is_new=False)
            if limit and sum(view.state == OrderState.OPEN for view in self.views.values()) >= limit.at_most:
                raise TooManyOrders("as many as may be")
            number = len(self.views) + 1
            values = {key: value for key, value in wish.items() if key not in {"now", "allow_identity"}}
            values["identity_allowed"] = wish.get("allow_identity") is not None
            self.views[number] = dataclasses.replace(NEW, id=number, **values)
        self.change(number, **self.plan)
        return PlacedOrder(number, is_new=True)

    def known(self, _look: Any, _settings: Settings, **wish: Any) -> int | None:
        with self.lock:
            return next((number for number, view in self.views.items() if _serves(view, wish, again=False)), None)

    def view(self, _look: Any, number: int, *, is_new: bool = True) -> OrderView | None:
        with self.lock:
            view = self.views.get(number)
        if view is None:
            return None
        return dataclasses.replace(view, already_sent=view.state == OrderState.DONE and not is_new)

    def change(self, number: int, **values: Any) -> None:
        """Let an order stand otherwise; an error or a state ends it."""
        if "error_kind" in values:
            values = {"state": OrderState.FAILED, "error": values["error_kind"].words, **values}
        if values.get("state", OrderState.OPEN) != OrderState.OPEN:
            values = {"stage": OrderStage.ENDED, "ended_at": 1_763_721_100.0, **values}
        with self.lock:
            self.views[number] = dataclasses.replace(self.views[number], **values)

    def forget(self) -> None:
        """Begin again without orders, for the next test of a shim that several share."""
        with self.lock:
            self.views, self.asked, self.plan, self.files_made = {}, [], {}, 1

    def last(self) -> int:
        return max(self.views)


def _serves(view: OrderView, wish: Mapping[str, Any], *, again: bool) -> bool:
    is_same = all(
        getattr(view, key) == wish[key] for key in ("verb", "modalities", "destination", "container")
    ) and set(view.accessions) == set(wish["accessions"])
    return is_same and (view.state == OrderState.OPEN or (view.state == OrderState.DONE and not again))


@dataclasses.dataclass
class RunningShim:
    """A shim that answers at `url`, and the orders behind it."""

    url: str
    orders: FakeOrders
    folder: Path
    settings: Settings

    def get(self, path: str, **options: Any) -> requests.Response:
        """Ask as the HIS does: with the key, JSON, no redirects unless asked for."""
        return self.request("GET", path, **options)

    def request(self, method: str, path: str, *, key: str | None = KEY, **options: Any) -> requests.Response:
        headers = {**({"X-API-Key": key} if key else {}), **options.pop("headers", {})}
        return requests.request(
            method,
            self.url + path,
            headers=headers,
            timeout=20,
            allow_redirects=options.pop("follow", False),
            **options,
        )

    def page(self, path: str, **headers: str) -> requests.Response:
        """Ask as a browser does."""
        return self.get(path, headers={**BROWSER, **headers}, follow=True)

    def page_of(self, link: str) -> str:
        """Return the address a browser is led to by a link, without following it."""
        return urljoin(link, self.get(link, headers=BROWSER).headers["Location"])

    def press(self, page: requests.Response, number: int = 0, **options: Any) -> requests.Response:
        """Send a form of a page with its hidden fields, as its button does, and follow no redirect."""
        action, fields = forms_of(page)[number]
        where = urljoin(page.url, action).removeprefix(self.url)
        return self.request("POST", where, data=fields, **options)

    def file(self, content: bytes = b"0123456789" * 1000, name: str = "X.iso") -> MadeFile:
        """Return a file an order may have made."""
        path = self.folder / name
        path.write_bytes(content)
        return MadeFile(str(path), name, len(content))


def forms_of(page: requests.Response) -> list[tuple[str, dict[str, str]]]:
    """Return the address and the hidden fields of each form that orders something."""
    found = re.findall(r'<form method="post" action="([^"]*)">(.*?)</form>', page.text, re.DOTALL)
    return [
        (html.unescape(action), dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', fields)))
        for action, fields in found
    ]


def below_orders(page: str) -> str:
    """Return the address below /orders/ of an order whose page is there, under the path of a link."""
    return f"/orders/{page.partition('order=')[2].partition('&')[0]}"


def settings_of(folder: Path, *, shim: Mapping[str, Any] | None = None, **tables: Any) -> Settings:
    """Return a site with a disc, a publisher and an archive, whose peers nobody plays."""
    (folder / "discs").mkdir(exist_ok=True)
    table: dict[str, Any] = {
        "folder": folder,
        "site": {"spool": str(folder / "spool")},
        "receiver": [
            {"name": "orders", "ae_title": "CDRECORD", "port": 10104, "mode": "association", "coerce": False}
        ],
        "destination": [
            {"name": "disc", "kind": "iso", "folder": str(folder / "discs")},
            {**PEER, "name": "publisher", "port": 10105},
            {**PEER, "name": "archive", "port": 10106},
            {**PEER, "name": "other", "port": 10107},
        ],
        "pacs": {**PACS},
        "shim": {
            "api_key": KEY,
            "download": "disc",
            "print": "publisher",
            "forward": ["archive", "other"],
            **(shim or {}),
        },
        **tables,
    }
    return Settings.model_validate({key: value for key, value in table.items() if value is not None})


PACS = {
    "ae_title": "PACS",
    "host": "127.0.0.1",
    "port": 11113,
    "calling_ae_title": "CDRECORD",
    "receiver": "orders",
}
PEER = {"kind": "cstore", "ae_title": "PEER", "host": "127.0.0.1", "calling_ae_title": "CDRECORD"}


@contextlib.contextmanager
def running_shim(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    connection: type[ClientConnection] = ClientConnection,
    **tables: Any,
) -> Iterator[RunningShim]:
    """Run a shim below `folder` until the block ends."""
    fake = FakeOrders()
    monkeypatch.setattr(orders, "place", fake.place)
    monkeypatch.setattr(orders, "known", fake.known)
    monkeypatch.setattr(orders, "view", fake.view)
    monkeypatch.setattr(order_queries, "files_made_for", lambda _look, _number: fake.files_made)
    settings = settings_of(folder, **tables)
    Spool(settings.site.spool).prepare()
    ledger, _ = open_ledger(settings.site.spool)
    ledger.close()
    port = free_port()
    with beating(settings.site.spool), served(application(opened(settings)), port, connection):
        yield RunningShim(f"http://127.0.0.1:{port}", fake, folder, settings)


@contextlib.contextmanager
def served(app: Any, port: int, connection: type[ClientConnection] = ClientConnection) -> Iterator[None]:
    """Serve an application in a thread of this process, and close its site at the end as `serve` does."""
    config = uvicorn.Config(
        app, port=port, http=connection, ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, timeout_graceful_shutdown=1, h11_max_incomplete_event_size=16384,
    )  # fmt: skip
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        wait_until(lambda: server.started, what="the shim to listen")
        yield
    finally:
        server.should_exit = True
        thread.join(10)
        app.app.state.site.close()
    assert not thread.is_alive()
