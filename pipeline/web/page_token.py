"""The token in each form of an order's page: it proves that a POST comes from a page of ours.

A foreign page can send a form here, and nginx adds the key to it; but it cannot read our pages, so it does not
know the token of an order.
"""

import hashlib
import hmac
from pathlib import Path

from pipeline.spool.key_file import key_in

FIELD = "token"  # Name of the hidden field.
KEY_FILE = "page-tokens.key"  # Name of the file in the spool.


def token_of(spool: Path, order_number: int) -> str:
    """Return the token of an order: HMAC-SHA-256 over its number, 64 hexadecimal digits; raises as `key_in`."""
    about = f"order {order_number}".encode()
    return hmac.new(key_in(spool / KEY_FILE), about, hashlib.sha256).hexdigest()


def is_token_of(spool: Path, order_number: int, text: str) -> bool:
    """Say whether `text`, as a form sent it, is the token of this order; raises as `key_in`."""
    return hmac.compare_digest(token_of(spool, order_number).encode(), text.encode("utf-8", "replace"))
