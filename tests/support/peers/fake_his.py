"""The HIS of a site, as docs/patient-api.md describes it: it knows whom a test tells it, or is down."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit


@dataclass
class FakeHis:
    """`people` are (medrec_id, patient_name) by accession number; `down` is the status it answers with instead."""

    people: dict[str, tuple[str | None, str | None]] = field(default_factory=dict)
    down: int | None = None
    asked: list[str] = field(default_factory=list)
    port: int = 0

    def table(self, **more: Any) -> dict[str, Any]:
        return {"kind": "api", "url": f"http://127.0.0.1:{self.port}", "retries": 0, "timeout": "5s", **more}

    def answer(self, accession: str) -> tuple[int, dict[str, str | None]]:
        self.asked.append(accession)
        if self.down is not None:
            return self.down, {}
        if accession not in self.people:
            return 404, {}
        medrec_id, name = self.people[accession]
        nothing = dict.fromkeys(("reg_id", "modality", "study_description"))
        return 200, {"accession_number": accession, "medrec_id": medrec_id, "patient_name": name, **nothing}


@contextlib.contextmanager
def fake_his() -> Iterator[FakeHis]:
    his = FakeHis()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = his.answer(parse_qs(urlsplit(self.path).query)["accession_number"][0])
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    his.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield his
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
