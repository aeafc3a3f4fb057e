"""The name of a download, in a header that no name can break."""

import re
from pathlib import Path

from pipeline.disc.pages.disc_names import download_name_of_several
from pipeline.orders import MadeFile, OrderView
from pipeline.web.order_request import Verb

_SUFFIX = re.compile(r"[a-z0-9]{1,8}")


def name_of(view: OrderView, result: MadeFile, patient_name: str) -> str:
    """Return the file name of an order's result: `{ACCESSION}.iso`, or `{PATIENT_NAME}-{ACCESSIONS}.iso`."""
    suffix = Path(result.name).suffix.removeprefix(".").lower()
    suffix = suffix if _SUFFIX.fullmatch(suffix) else "iso"
    accessions = [one for one in view.accessions if one not in view.missing]
    if view.verb == Verb.DOWNLOAD_MULTIPLE or len(accessions) != 1:
        return download_name_of_several(patient_name, accessions, suffix)
    return f"{_plain(accessions[0])}.{suffix}"


def disposition(name: str) -> str:
    """Return the Content-Disposition of an attachment (RFC 6266, 4.2)."""
    return f'attachment; filename="{_plain(name)}"'


def _plain(name: str) -> str:
    """Return a name that every file system and browser keeps unchanged; never hidden, never empty."""
    return re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".") or "download"
