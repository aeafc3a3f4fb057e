"""`storestow trace --archived`: what became of instances whose rows the ledger has forgotten."""

import json
import tempfile
from pathlib import Path
from typing import Any

from sqlalchemy import insert

from pipeline.errors import Permanent
from pipeline.ledger import FILE_NAME, Ledger, accounts
from pipeline.ledger.tables import orders
from pipeline.operate.trace import trace
from pipeline.spool.account_archive import AccountArchive
from pipeline.spool.spool import Spool


def archived(subject: str, spool: Spool) -> dict[str, Any]:
    """Return what the archive of accounts knows of `subject`, in the shape of `trace --json`.

    The accounts are entered into a ledger of their own, which is asked and thrown away. Every year is read from
    its begin: seconds for each gigabyte. Raises Permanent naming a file that is damaged.
    """
    with tempfile.TemporaryDirectory(prefix="storestow-") as folder:
        ledger = Ledger(Path(folder) / FILE_NAME)
        try:
            ledger.create()
            _enter(subject, spool, ledger)
            return trace(subject, ledger)
        finally:
            ledger.close()


def _enter(subject: str, spool: Spool, ledger: Ledger) -> None:
    found: dict[str | int, dict[str, Any]] = {}  # the last of several: an append that was killed is repeated
    try:
        for line in AccountArchive(spool.accounts).lines(json.dumps(subject, ensure_ascii=False)[1:-1].encode()):
            entry = json.loads(line)
            found[entry["order"]["id"] if "order" in entry else entry["arrival"]["name"]] = entry
    except ValueError as error:
        raise Permanent(f"the archive of accounts: {error}") from error
    with ledger.transaction() as connection:
        for entry in found.values():
            if "order" in entry:
                connection.execute(insert(orders).values(**entry["order"]))
                continue
            for one in entry["instances"]:
                for answer in one["deliveries"]:
                    answer["delivery"]["order_id"] = None  # its order may not be forgotten yet
            accounts.restore(connection, entry)
