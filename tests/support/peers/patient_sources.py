"""What a HIS tells of its patients: an API, and the tables of two databases."""

import contextlib
import http.server
import json
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

QUERIES = [
    {
        "select": "SELECT medrec_id, reg_id, modality, description AS study_description"
        " FROM pacs_result_series WHERE accession_number = :accession_number",
    },
    {"select": "SELECT name AS patient_name FROM medrec WHERE medrec_id = :medrec_id"},
]


class Api:
    """An API of the HIS: `answers` are given one after the other, the last one for ever."""

    def __init__(self):
        self.answers = [(200, {"accession_number": "A1", "patient_name": "PEREZ JUAN", "medrec_id": "4711"})]
        self.asked = []
        self.pause = 0.0
        self.content_type = "application/json"

    def table(self, **more):
        return {"kind": "api", "url": f"http://127.0.0.1:{self.port}/his/", "timeout": "1s", **more}


@contextlib.contextmanager
def his_api() -> Iterator[Api]:
    """Yield an API that answers while the context lasts."""
    api = Api()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            address = urlsplit(self.path)
            api.asked.append((address.path, parse_qs(address.query), dict(self.headers)))
            time.sleep(api.pause)
            status, body = api.answers.pop(0) if len(api.answers) > 1 else api.answers[0]
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.send_header("Content-Type", api.content_type)
            if status == 302:
                self.send_header("Location", "/elsewhere")
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield api
    server.shutdown()
    server.server_close()
    thread.join()


def his_databases(folder: Path) -> dict:
    """Write two databases of a HIS; return the table of the site that asks them."""
    results, people = folder / "results.db", folder / "people.db"
    with sqlite3.connect(results) as one:
        one.execute(
            "CREATE TABLE pacs_result_series"
            " (accession_number TEXT, medrec_id TEXT, reg_id TEXT, modality TEXT, description TEXT)"
        )
        rows = [
            ("A1", "4711", "R1", "CT", None),
            ("A1", "4711", "R1", "SR", "Thorax"),
            ("B2", "0815", None, "MR", None),
            ("C3", "4711", None, "CT", None),
            ("C3", "0815", None, "CT", None),
            ("D4", None, None, "CT", None),
            ("E5", "9999", None, "CT", None),
            ("F6", "0", None, "CT", None),
            ("G7", "0", None, "CT", None),
            ("G7", "04711", None, "CT", None),
            ("G7", "4711", None, "CT", None),
        ]
        one.executemany("INSERT INTO pacs_result_series VALUES (?, ?, ?, ?, ?)", rows)
    with sqlite3.connect(people) as other:
        other.execute("CREATE TABLE medrec (medrec_id TEXT, name TEXT)")
        other.executemany("INSERT INTO medrec VALUES (?, ?)", [("4711", "PEREZ JUAN"), ("0815", "O'BRIEN")])
    one.close()
    other.close()
    urls = [f"sqlite:///file:{path}?mode=ro&uri=true" for path in (results, people)]
    return {"kind": "sql", "query": [{"url": url, **query} for url, query in zip(urls, QUERIES, strict=True)]}
