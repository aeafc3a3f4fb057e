"""A first site.toml as text, with a comment for each decision: what `storestow init` writes."""

import json
import re
from dataclasses import dataclass
from typing import NamedTuple

from pipeline.errors import Usage

_PEER = re.compile(r"(.{1,16})@(\[?[A-Za-z0-9_.:-]+?\]?):([0-9]{1,5})")
MAPPING = "institution_mapping.json"


class PeerAddress(NamedTuple):
    """A DICOM peer as a command line names it: AE@HOST:PORT."""

    ae_title: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class SiteDraft:
    """The parts of a site; the site lacks those that are None or empty.

    `archive_url` is where arriving studies go by STOW-RS, `relay` where they go by C-STORE. `pacs` is asked by
    accession number; then `discs` is the folder of disc images, `publisher` prints, and `his` is the patient API.
    """

    spool: str
    ae_title: str = "STORESTOW"
    port: int = 11112
    archive_url: str = ""
    relay: PeerAddress | None = None
    pacs: PeerAddress | None = None
    calling_ae_title: str = "CDRECORD"
    orders_port: int = 10104
    discs: str = ""
    publisher: PeerAddress | None = None
    his: str = ""
    http_port: int = 8090

    @property
    def receives(self) -> bool:
        """Tell whether modalities send here."""
        return bool(self.archive_url or self.relay)


def peer_address(text: str) -> PeerAddress:
    """Parse AE@HOST:PORT; raises Usage saying how it is written."""
    match = _PEER.fullmatch(text.strip())
    if not match or not 1 <= int(match[3]) <= 65535:
        raise Usage(f"{text!r}: write a DICOM peer as AE@HOST:PORT, as in PACS@pacs.example.org:11112")
    return PeerAddress(match[1], match[2].strip("[]"), int(match[3]))


def site_toml(draft: SiteDraft) -> str:
    """Return the text of site.toml."""
    parts = [_site(draft)]
    if draft.receives:
        parts.append(_modalities(draft))
    if draft.archive_url:
        parts.append(_archive(draft.archive_url))
    if draft.relay:
        parts.append(_cstore("relay", "Another PACS, by C-STORE.", draft.relay, draft.ae_title))
    if draft.pacs:
        parts += [_pacs(draft, draft.pacs), _orders_receiver(draft)]
        parts += [_discs(draft.discs)] if draft.discs else []
        if draft.publisher:
            told = "The CD publisher, by C-STORE."
            parts.append(_cstore("publisher", told, draft.publisher, draft.calling_ae_title))
        parts.append(_shim(draft))
        parts += [_patients(draft.his)] if draft.his else []
    return "\n".join(parts)


def mapping_json(senders: dict[str, str]) -> str:
    """Return the text of the institution mapping."""
    return json.dumps(senders, indent=2, ensure_ascii=False) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)


def _site(draft: SiteDraft) -> str:
    mapping = f"institution_mapping = {_text(MAPPING)}  # sender -> Institution Name; {{}} keeps all as received\n"
    return f"""\
# A site of storestow. Every key: docs/configuration.md. After a change: storestow check, then restart.

[site]
spool = {_text(draft.spool)}  # a local disk with room for a week
keep_originals = "7d"  # how long received files stay after their delivery
{mapping if draft.receives else ""}"""


def _modalities(draft: SiteDraft) -> str:
    ways = ", ".join(
        _text(name) for name, there in (("archive", draft.archive_url), ("relay", draft.relay)) if there
    )
    return f"""\
# Where modalities send to. They must know this AE title, this machine and this port.
[[receiver]]
name = "modalities"
ae_title = {_text(draft.ae_title)}
port = {draft.port}
mode = "association"  # senders side by side, their bytes kept as sent; docs/modes.md compares it with "study"
quiet_seconds = 10  # a study is complete when nothing came for so long
to = [{ways}]
"""


def _archive(url: str) -> str:
    return f"""\
# The archive, by STOW-RS; what it has got is counted by QIDO-RS.
[[destination]]
name = "archive"
kind = "stow"
url = {_text(url)}
encode = "j2k"  # JPEG 2000 lossless where pixels allow it; "none" sends them as they came
# auth = {{ kind = "basic", user = "storestow", password_file = "/etc/storestow/archive.password" }}
"""


def _cstore(name: str, told: str, peer: PeerAddress, calling_ae_title: str) -> str:
    return f"""\
# {told} It must know the calling AE title.
[[destination]]
name = {_text(name)}
kind = "cstore"
ae_title = {_text(peer.ae_title)}
host = {_text(peer.host)}
port = {peer.port}
calling_ae_title = {_text(calling_ae_title)}
"""


def _pacs(draft: SiteDraft, pacs: PeerAddress) -> str:
    return f"""\
# The PACS that is asked by accession number (C-FIND), and sends what is ordered to the receiver below (C-MOVE).
[pacs]
ae_title = {_text(pacs.ae_title)}
host = {_text(pacs.host)}
port = {pacs.port}
calling_ae_title = {_text(draft.calling_ae_title)}
receiver = "orders"
"""


def _orders_receiver(draft: SiteDraft) -> str:
    return f"""\
# Where the PACS sends to: it must know this AE title with the address of this machine and this port.
[[receiver]]
name = "orders"
ae_title = {_text(draft.calling_ae_title)}
port = {draft.orders_port}
mode = "association"
quiet_seconds = 2
coerce = false  # what a PACS sends for an order leaves as the PACS sent it
to = []
"""


def _discs(folder: str) -> str:
    return f"""\
# Patient discs as ISO images. The folder must exist: an absent share must not fill this disk.
[[destination]]
name = "disc"
kind = "iso"
folder = {_text(folder)}
# contact = "Example Hospital, +1 555 0100"  # how the finder of a disc reaches you
"""


def _shim(draft: SiteDraft) -> str:
    lines = ['download = "disc"\n' if draft.discs else "", 'print = "publisher"\n' if draft.publisher else ""]
    return f"""\
# HTTP for the links of the HIS and their pages; behind nginx (docs/nginx.conf) where others call.
[shim]
port = {draft.http_port}
{"".join(lines)}# The key: better in the environment, STORESTOW_API_KEY; needed where host is not a loopback one.
"""


def _patients(url: str) -> str:
    return f"""\
# The HIS, asked whose an accession number is (docs/patient-api.md).
[patients]
kind = "api"
url = {_text(url)}
# key_file = "/etc/storestow/his.key"
"""
