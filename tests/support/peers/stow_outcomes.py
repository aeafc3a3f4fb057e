"""What a stow destination makes of a consignment: its receipts up to the error, as the worker sees them."""

from support.studies.small_studies import consign, last_of, uids_of

from pipeline.destinations import from_table
from pipeline.errors import StorestowError
from pipeline.model import Item, Receipt, ReceiptState


def stow(url, **keys):
    return from_table({"name": "archive", "kind": "stow", "url": url, **keys})


class Collected:
    """Receipts up to the error: what the worker sees."""

    def __init__(self, destination, items, *, attempts=None, released=False):
        self.receipts: list[Receipt] = []
        self.error: StorestowError | None = None
        try:
            for receipt in destination.deliver(consign(items, attempts, released=released)):
                self.receipts.append(receipt)
        except StorestowError as error:
            self.error = error
        self.last = last_of(self.receipts)

    def states(self):
        return [receipt.state for receipt in self.last.values()]

    def all_verified(self, items):
        return set(self.last) == set(uids_of(items)) and all(
            receipt.state is ReceiptState.STORED and receipt.verified for receipt in self.last.values()
        )


def assert_archived(archive, items: tuple[Item, ...]):
    assert {uid: archive.stored[uid] for uid in uids_of(items)} == {
        item.key.sop_instance_uid: item.path.read_bytes() for item in items
    }
