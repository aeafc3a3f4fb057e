"""The checks of `check` on senders for orders, and whom the list would have excluded in the last months."""

import time
from collections.abc import Iterator
from typing import Literal

from sqlalchemy.exc import SQLAlchemyError

from pipeline.config.numeric_addresses import addresses_of
from pipeline.errors import StorestowError
from pipeline.ledger.seen_senders import instances
from pipeline.line.senders import Sender, Senders, senders_of
from pipeline.site.settings import Settings
from pipeline.site.site_ledger import connect

DAYS = 90
MOST = 20  # Peers named in a finding.
WEAKER = (
    "the receiver {receiver} knows no addresses, so the calling AE title alone says that the PACS has sent "
    'something, which is weaker: anybody can claim one; mode = "association" lets the address decide'
)

Found = tuple[Literal["ok", "note", "unreachable"], str]


def looked_at(settings: Settings) -> Iterator[Found]:
    """Yield findings about senders, each a level and a sentence; the site must have a [pacs]."""
    senders = senders_of(settings)
    if not senders.address_decides:
        yield "note", WEAKER.format(receiver=senders.pacs.receiver)
    else:
        yield _addresses(senders)
    for sender, count in _unknown(settings, senders)[:MOST]:
        came = f"in the last {DAYS} days {count} instances came to {senders.pacs.receiver} from {sender}"
        line = senders.line_with(sender)
        yield (
            "note",
            f"{came}, whom [pacs] does not name, so they count for no order; if that is the PACS, write: {line}",
        )


def _addresses(senders: Senders) -> Found:
    hosts = [senders.pacs.host, *(sender.address for sender in senders.pacs.senders if sender.address)]
    for host in hosts:
        if not addresses_of(host):
            return "unreachable", f"{host} has no address at present, so nothing that comes from there counts"
    found = sorted({address for host in hosts for address in addresses_of(host)})
    return "ok", f"what comes from {', '.join(found)} counts for orders"


def _unknown(settings: Settings, senders: Senders) -> list[tuple[Sender, int]]:
    """Return who has sent to the receiver of orders without being listed, the busiest first."""
    ledger = connect(settings)
    try:
        if not ledger.exists():
            return []
        # The ledger may be of any release: these columns have always existed.
        with ledger.reading() as connection:
            counted = instances(connection, senders.pacs.receiver, time.time() - DAYS * 86400)
    except (StorestowError, SQLAlchemyError):  # Another check reports faults of the ledger.
        return []
    finally:
        ledger.close()
    found = {Sender(*who): count for who, count in counted.items()}
    if senders.address_decides:  # Instances fetched by C-GET, or received in study mode, have no address.
        found = {sender: count for sender, count in found.items() if sender.address is not None}
    unknown = {sender: count for sender, count in found.items() if not senders.include(sender)}
    return sorted(unknown.items(), key=lambda one: -one[1])
