"""Orders as rows, without a PACS: placed, and brought to where a PACS would have brought them."""

import time
from collections.abc import Sequence
from pathlib import Path

from support.sites.line_site import NULL, RECEIVER, arrive, settings_for

from pipeline.dicom.accession import AccessionNumber
from pipeline.ledger import orders, retrievals
from pipeline.model import RetrievalState
from pipeline.orders import place, view
from pipeline.site.settings import Settings

PACS = {"ae_title": "PACS", "host": "127.0.0.1", "port": 1, "calling_ae_title": "CDRECORD", "receiver": "cdrecord"}
CDRECORD = {"name": "cdrecord", "ae_title": "CDRECORD", "port": 10104, "mode": "association", "coerce": False}


def settings_with_pacs(folder: Path, *, destinations=(NULL,), shim=None, **site) -> Settings:
    receivers = [{**CDRECORD, "quiet_seconds": 1}, {**RECEIVER, "to": ["nowhere"]}]
    plain = settings_for(folder, destinations=destinations, receivers=receivers, **site)
    table = {
        "folder": folder,
        "site": {"spool": str(folder / "spool"), "workers": 1, **site},
        "receiver": receivers,
        "destination": list(destinations),
        "pacs": PACS,
        "shim": shim or {},
    }
    assert plain.pacs is None
    return Settings.model_validate(table)


def arrive_from_pacs(site, *files: Path, age: float = 60.0) -> str:
    """Admit copies of these files as the PACS would have sent them, and return the arrival's name."""
    return arrive(site.spool, *files, receiver="cdrecord", age=age, peer=PACS["host"])


def order(site, *accessions: str, **wish):
    numbers = [AccessionNumber.parse(one) for one in accessions]
    return place(
        site.ledger, site.settings, **{"verb": "print", "accessions": numbers, "destination": "nowhere"} | wish
    )


def look(site, number: int):
    with site.ledger.reading() as connection:
        return view(connection, number)


def retrieval(site, uid: str, *, modalities: tuple[str, ...] = (), series: Sequence[str] = ()) -> int:
    """A retrieval that has been asked for and is under way; one of some modalities was asked for `series`."""
    with site.ledger.transaction() as change:
        number = retrievals.enter(change, uid, modalities, (), time.time())
        values = {"state": RetrievalState.RECEIVING, "started_at": time.time() - 3600}
        retrievals.change_row(change, number, **values)
    if series:
        wish = order(site, f"R{number}", modalities=modalities).order_id
        link = {
            "order_id": wish,
            "study_instance_uid": uid,
            "accession_numbers": (f"R{number}",),
            "retrieval": number,
        }
        told = [[one, "\\".join(modalities), None] for one in series]
        with site.ledger.transaction() as change:
            orders.enter_studies(change, [{**link, "found_at": time.time(), "series": told}])
    return number


def waiting_order(site, uid: str = "1.2.3") -> tuple[int, int]:
    """An order whose study is found and waits for its turn."""
    number = order(site, "A1").order_id
    with site.ledger.transaction() as change:
        move = retrievals.enter(change, uid, (), (), time.time())
        link = {"order_id": number, "study_instance_uid": uid, "accession_numbers": ("A1",), "series": []}
        orders.enter_studies(change, [{**link, "found_at": time.time(), "asked": True, "retrieval": move}])
        orders.change_row(change, number, stage="queued")
    return number, move
