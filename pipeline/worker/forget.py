"""Delete old arrivals and orders from the ledger, after their accounts have been appended to the archive.

An account is on the disk before its rows are deleted. If the worker is killed in between, the account is appended
once more; readers of the archive take the last of several.
"""

import json
import time
from collections.abc import Iterable
from typing import Any

from pipeline.events import Event, emit
from pipeline.ledger import accounts, forgotten
from pipeline.site.site import Site
from pipeline.spool.account_archive import AccountArchive

ARRIVALS_AT_ONCE, ORDERS_AT_ONCE = 20, 200  # Rows in one transaction, for which other writers wait.
LONGEST_SECONDS = 20.0  # The longest time of one call of `expire`.
PAGES_AT_ONCE = 5000  # Database pages that are given back to the disk at the end of a call.


def expire(site: Site, now: float) -> None:
    """Forget arrivals whose originals were deleted `keep_accounts` ago, and orders that ended then.

    `now` is in seconds since the epoch. The transactions are small; what a call leaves, the next call forgets.
    """
    before = now - site.settings.site.keep_accounts.total_seconds()
    archive = AccountArchive(site.spool.accounts)
    end = time.monotonic() + LONGEST_SECONDS
    arrivals = orders = 0
    while time.monotonic() < end and (count := _arrivals(site, archive, before)):
        arrivals += count
    while time.monotonic() < end and (count := _orders(site, archive, before)):
        orders += count
    if arrivals or orders:
        with site.ledger.transaction() as connection:
            forgotten.give_pages_back(connection, PAGES_AT_ONCE)
        emit(Event.FORGOTTEN, arrivals=arrivals, orders=orders)


def _arrivals(site: Site, archive: AccountArchive, before: float) -> int:
    with site.ledger.reading() as connection:
        found = forgotten.arrivals_over(connection, before, ARRIVALS_AT_ONCE)
        lines = [(at, accounts.account_of(connection, name, at)) for name, at in found.items()]
    _append(archive, lines)
    with site.ledger.transaction() as connection:
        still = forgotten.arrivals_over(connection, before, ARRIVALS_AT_ONCE)
        names = [name for name in found if name in still]  # A person may have asked for one meanwhile.
        forgotten.forget_arrivals(connection, names)
    return len(names)


def _orders(site: Site, archive: AccountArchive, before: float) -> int:
    with site.ledger.reading() as connection:
        numbers = forgotten.orders_over(connection, before, ORDERS_AT_ONCE)
        lines = [forgotten.order_as_json(connection, number) for number in numbers]
    _append(archive, [(line["order"]["ended_at"], line) for line in lines])
    with site.ledger.transaction() as connection:
        still = set(forgotten.orders_over(connection, before, ORDERS_AT_ONCE))
        numbers = [number for number in numbers if number in still]
        forgotten.forget_orders(connection, numbers, before)
    return len(numbers)


def _append(archive: AccountArchive, written: Iterable[tuple[float, dict[str, Any]]]) -> None:
    by_year: dict[int, list[bytes]] = {}
    for at, line in written:
        by_year.setdefault(time.gmtime(at).tm_year, []).append(json.dumps(line, ensure_ascii=False).encode())
    for year, lines in sorted(by_year.items()):
        archive.append(year, lines)
