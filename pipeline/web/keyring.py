"""The key of the interface: where it comes from, and how one that is shown is compared."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import Configuration
from pipeline.site.settings import Settings

VARIABLE = "STORESTOW_API_KEY"  # wins over [shim] api_key, so that the key need not stand in a file others read


@dataclass(frozen=True, slots=True, repr=False)
class Keyring:
    """The key that opens the interface; empty where the site has none."""

    key: str

    @property
    def is_set(self) -> bool:
        """Say whether there is a key at all."""
        return bool(self.key)

    def opens(self, headers: Mapping[str, str]) -> bool:
        """Say whether the key is shown, as X-API-Key or as a bearer token; without a key of ours nothing is."""
        shown = [headers.get("x-api-key", ""), _bearer(headers.get("authorization", ""))]
        matches = [_are_equal(one, self.key) for one in shown]  # all of them, so that time tells nothing
        return self.is_set and any(matches)


def keyring_of(settings: Settings) -> Keyring:
    """Return the site's key; raises Configuration where no HTTP header could carry it."""
    key = os.environ.get(VARIABLE, "") or settings.shim.api_key
    if not all("\x21" <= character <= "\x7e" for character in key):
        raise Configuration(f"the key of [shim] ({VARIABLE}, api_key) is not of printable ASCII without blanks")
    return Keyring(key)


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _are_equal(one: str, other: str) -> bool:
    """Compare in a time that tells neither where the two differ nor how long the key is."""
    return hmac.compare_digest(_digest(one), _digest(other))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
