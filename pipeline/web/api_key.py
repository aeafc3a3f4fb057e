"""The key of the interface: where it comes from, and how one that is shown is compared."""

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import Configuration
from pipeline.site.settings import Settings

VARIABLE = "STORESTOW_API_KEY"  # wins over [shim] api_key, so that the key need not stand in a file others read
OPERATOR_VARIABLE = "STORESTOW_OPERATOR_KEY"  # likewise over [shim] operator_key


@dataclass(frozen=True, slots=True, repr=False)
class ApiKeys:
    """The key that opens the interface, and the one a person acts with; each empty where the site has none."""

    key: str
    operator_key: str = ""

    @property
    def is_set(self) -> bool:
        """Say whether there is a key at all."""
        return bool(self.key)

    def opens(self, headers: Mapping[str, str]) -> bool:
        """Say whether the key is shown, as X-API-Key or as a bearer token; without a key of ours nothing is."""
        shown = [headers.get("x-api-key", ""), _bearer(headers.get("authorization", ""))]
        matches = [_are_equal(one, self.key) for one in shown]  # all of them, so that time tells nothing
        return self.is_set and any(matches)

    def is_operator(self, shown: str) -> bool:
        """Say whether this is the operator's key; where the site has none, nothing is."""
        return _are_equal(shown, self.operator_key) and bool(self.operator_key)


def keyring_of(settings: Settings) -> ApiKeys:
    """Return the site's keys; raises Configuration where no HTTP header could carry one, or both are the same."""
    key = os.environ.get(VARIABLE, "") or settings.shim.api_key
    operator_key = os.environ.get(OPERATOR_VARIABLE, "") or settings.shim.operator_key
    for name, one in ((f"{VARIABLE}, api_key", key), (f"{OPERATOR_VARIABLE}, operator_key", operator_key)):
        if not all("\x21" <= character <= "\x7e" for character in one):
            raise Configuration(f"the key of [shim] ({name}) is not of printable ASCII without blanks")
    if operator_key and _are_equal(key, operator_key):
        raise Configuration("[shim] operator_key is the api_key, which proxies add for everybody: choose another")
    return ApiKeys(key, operator_key)


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _are_equal(one: str, other: str) -> bool:
    """Compare in a time that tells neither where the two differ nor how long the key is."""
    return hmac.compare_digest(_digest(one), _digest(other))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
