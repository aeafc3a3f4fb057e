"""The site of the demonstration: modalities to an archive, and orders from a PACS to discs and a CD publisher."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

AE_TITLE = "STORESTOW"
CALLING_AE_TITLE = "CT1"  # what the demonstration's sender calls itself; the mapping below knows it
ORDERS_AE_TITLE = "CDRECORD"  # what the PACS sends orders to
INSTITUTION = "Example Hospital, Main Site"

SITE = """\
# Written anew by every `make run`.
[site]
spool = "{spool}"
keep_originals = "1d"
keep_results = "1d"
institution_mapping = "institution_mapping.json"

[[receiver]]
name = "modalities"
ae_title = "{ae_title}"
port = {port}
quiet_seconds = 2    # a hospital takes 10 or more
to = ["archive"]

[[destination]]
name = "archive"
kind = "stow"
url = "{url}"
encode = "j2k"

[pacs]
ae_title = "{pacs_ae_title}"
host = "127.0.0.1"
port = {pacs_port}
calling_ae_title = "{orders_ae_title}"
receiver = "orders"

[[receiver]]
name = "orders"
ae_title = "{orders_ae_title}"
port = {orders_port}
bind = "127.0.0.1"
mode = "association"
quiet_seconds = 1
coerce = false
to = []

[[destination]]
name = "disc"
kind = "iso"
folder = "{discs}"

[[destination]]
name = "publisher"
kind = "cstore"
ae_title = "{publisher_ae_title}"
host = "127.0.0.1"
port = {publisher_port}
calling_ae_title = "{orders_ae_title}"

[shim]
port = {http_port}
download = "disc"
print = "publisher"
hosts = ["127.0.0.1:{http_port}", "localhost:{http_port}"]
"""


@dataclass(frozen=True)
class Peers:
    """Where everything listens that the site works with."""

    port: int
    url: str
    pacs_ae_title: str
    pacs_port: int
    orders_port: int
    publisher_ae_title: str
    publisher_port: int
    http_port: int

    @property
    def root(self) -> str:
        """Return the address of the links."""
        return f"http://127.0.0.1:{self.http_port}"


def write(folder: Path, peers: Peers) -> Path:
    """Write site.toml and the institution mapping into `folder`; return the former."""
    (folder / "institution_mapping.json").write_text(json.dumps({CALLING_AE_TITLE: INSTITUTION}, indent=2))
    file = folder / "site.toml"
    discs = folder / "discs"
    discs.mkdir(exist_ok=True)
    names = {"spool": folder / "spool", "ae_title": AE_TITLE, "orders_ae_title": ORDERS_AE_TITLE, "discs": discs}
    file.write_text(SITE.format(**names, **asdict(peers)))
    return file
