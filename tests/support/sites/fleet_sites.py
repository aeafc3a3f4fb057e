"""Sites of a fleet for tests: a healthy report, and HTTP servers that answer as no site of ours does."""

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from support.machine.dicom_programs import free_port

from pipeline.config.fleet_tables import FleetSiteTable
from pipeline.fleet.site_report import SiteReport

STATUS_KEY = "a-key-that-only-reads"


def report(**values: Any) -> SiteReport:
    """Return the report of a site that needs nobody, but for `values`."""
    table = {
        "version": "1.2.3",
        "name": "North Hospital",
        "at": time.time(),
        "worker": "up",
        "destinations": [{"name": "archive", "kind": "stow", "state": "up", "waiting": 0, "oldest_seconds": None}],
        "receivers": [{"name": "modalities", "ae_title": "STORESTOW", "state": "up"}],
        "silent": [],
        "quarantine": 0,
        "refused": 0,
        "open_orders": 0,
        "space": {"free": 900_000_000_000, "size": 1_000_000_000_000, "state": "enough"},
        "alarms": [],
    }
    return SiteReport.model_validate({**table, **values})


def fleet_site(folder: Path, name: str, port: int, **values: Any) -> FleetSiteTable:
    """Return the table of a site on this machine, with short time-outs."""
    key = folder / "status.key"
    if not key.exists():
        key.touch(0o600)
        key.write_text(STATUS_KEY)
    table = {
        "name": name,
        "url": f"http://127.0.0.1:{port}",
        "key_file": str(key),
        "connect_timeout": "500ms",
        "answer_timeout": "500ms",
    }
    return FleetSiteTable.model_validate({**table, **values})


def answer_of(body: bytes, status: str = "200 OK") -> bytes:
    """Return a whole HTTP answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}Connection: close\r\n\r\n".encode() + body


@contextlib.contextmanager
def answering(*pieces: bytes, pause: float = 0.0, port: int = 0) -> Iterator[int]:
    """Answer each request with these pieces, `pause` seconds apart, and yield the port; without any, hang.

    Without `port` a free one is taken.
    """
    ended = threading.Event()

    def serve(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(65536)
            for piece in pieces:
                connection.sendall(piece)
                if ended.wait(pause):
                    return
            if not pieces:
                ended.wait()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listening.accept()
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    port = port or free_port()
    with socket.create_server(("127.0.0.1", port)) as listening:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        try:
            yield port
        finally:
            ended.set()
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(5)
