"""Tell whether a sender counts for orders: only the PACS does, as [pacs] names it.

Anybody who reaches the receiver of orders may send to it, under any UIDs. In association mode the peer's address
decides, which a sender that wants an answer cannot forge: it must be that of `host` or of one of the `senders`,
with its AE title if the entry has one. In study mode the address is unknown, and the calling AE title decides,
which storescp writes into each file (0002,0016), although anybody can use any title.
"""

import json
from dataclasses import dataclass

from pipeline.config.numeric_addresses import addresses_of
from pipeline.config.order_tables import PacsTable, SenderTable
from pipeline.line.identify import IdentifiedFile
from pipeline.site.settings import Settings
from pipeline.spool.envelope import Envelope

AE_TITLE_LENGTH = 16  # PS3.5 table 6.2-1


@dataclass(frozen=True, slots=True)
class Sender:
    """A peer that has sent instances; `address` is numeric, None if it is not known."""

    ae_title: str
    address: str | None

    def __str__(self) -> str:
        """Return the peer in words."""
        name = self.ae_title or "a peer without an AE title"
        return name if self.address is None else f"{name} at {self.address}"


@dataclass(frozen=True, slots=True)
class Senders:
    """The senders whose instances count for orders."""

    pacs: PacsTable
    address_decides: bool

    def include(self, sender: Sender) -> bool:
        """Tell whether the configuration names this sender as the PACS."""
        if not self.address_decides:
            titles = {self.pacs.ae_title, *(one.ae_title for one in self.pacs.senders)}
            return bool(sender.ae_title) and sender.ae_title in titles
        if sender.address is None:
            return False
        if sender.address in addresses_of(self.pacs.host):
            return True
        return any(_is(sender, one) for one in self.pacs.senders)

    def line_with(self, other: Sender) -> str:
        """Return the line `senders` of [pacs] with this peer added, ready to be pasted."""
        entries = [_entry(one.address, one.ae_title) for one in self.pacs.senders]
        entries.append(_entry(other.address if self.address_decides else None, other.ae_title))
        return f"senders = [{', '.join(entries)}]"


def _is(sender: Sender, entry: SenderTable) -> bool:
    if entry.address is None or (entry.ae_title is not None and entry.ae_title != sender.ae_title):
        return False
    return sender.address in addresses_of(entry.address)


def _entry(address: str | None, ae_title: str | None) -> str:
    """Return an entry in TOML, whose strings are escaped like those of JSON."""
    keys = {"address": address, "ae_title": ae_title}
    return f"{{ {', '.join(f'{key} = {json.dumps(value)}' for key, value in keys.items() if value)} }}"


def sender_of(found: IdentifiedFile, envelope: Envelope | None) -> Sender:
    """Return the sender of a file: from the envelope, otherwise by the AE title that storescp has written."""
    if envelope is None:
        return Sender(found.source_ae_title[:AE_TITLE_LENGTH], None)
    return Sender((envelope.calling_ae_title or found.source_ae_title)[:AE_TITLE_LENGTH], envelope.peer)


def senders_of(settings: Settings) -> Senders:
    """Return the senders that count at the receiver of orders; the configuration must have [pacs]."""
    pacs = settings.pacs
    assert pacs is not None
    return Senders(pacs, settings.receiver_named(pacs.receiver).mode == "association")
