"""The API key: where it is configured, and how a presented key is compared."""

import hashlib
import hmac
import itertools
import os
from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.errors import Configuration
from pipeline.site.settings import Settings

# This variable takes precedence over [shim] api_key, so that the key need not be in a file that others read.
VARIABLE = "STORESTOW_API_KEY"
OPERATOR_VARIABLE = "STORESTOW_OPERATOR_KEY"  # This variable takes precedence over [shim] operator_key.
METRICS_VARIABLE = "STORESTOW_METRICS_KEY"  # likewise over [shim] metrics_key
STATUS_VARIABLE = "STORESTOW_STATUS_KEY"  # likewise over [shim] status_key
_KNOWN_TO = {
    "api_key": "which proxies add for everybody",
    "operator_key": "which is a person's",
    "metrics_key": "which the monitoring knows",
}


@dataclass(frozen=True, slots=True, repr=False)
class ApiKeys:
    """The keys of a site: for the interface, operators, /metrics and /api/status; each may be empty."""

    key: str
    operator_key: str = ""
    metrics_key: str = ""
    status_key: str = ""

    @property
    def is_set(self) -> bool:
        """Say whether the site has an API key."""
        return bool(self.key)

    def opens(self, headers: Mapping[str, str]) -> bool:
        """Say whether the key is presented, as X-API-Key or bearer token; False if the site has no key."""
        return self.is_set and _shows(headers, self.key)

    def opens_metrics(self, headers: Mapping[str, str]) -> bool:
        """Say whether the key of /metrics is presented, which opens nothing else; False if the site has none."""
        return bool(self.metrics_key) and _shows(headers, self.metrics_key)

    def opens_status(self, headers: Mapping[str, str]) -> bool:
        """Say whether the key of /api/status is presented; no other opens it, because proxies add the API key."""
        return bool(self.status_key) and _shows(headers, self.status_key)

    def is_operator(self, shown: str) -> bool:
        """Say whether this is the operator's key; False if the site has none."""
        return _are_equal(shown, self.operator_key) and bool(self.operator_key)


def keyring_of(settings: Settings) -> ApiKeys:
    """Return the site's keys; raises Configuration if no HTTP header could carry one, or two are the same."""
    shim = settings.shim
    keys = {
        "api_key": os.environ.get(VARIABLE, "") or shim.api_key,
        "operator_key": os.environ.get(OPERATOR_VARIABLE, "") or shim.operator_key,
        "metrics_key": os.environ.get(METRICS_VARIABLE, "") or shim.metrics_key,
        "status_key": os.environ.get(STATUS_VARIABLE, "") or shim.status_key,
    }
    variables = {
        "api_key": VARIABLE,
        "operator_key": OPERATOR_VARIABLE,
        "metrics_key": METRICS_VARIABLE,
        "status_key": STATUS_VARIABLE,
    }
    for name, key in keys.items():
        if not all("\x21" <= character <= "\x7e" for character in key):
            named = f"{variables[name]}, {name}"
            raise Configuration(f"the key of [shim] ({named}) is not of printable ASCII without blanks")
    for (first, key), (second, other) in itertools.combinations(keys.items(), 2):
        if key and _are_equal(key, other):
            raise Configuration(f"[shim] {second} is the {first}, {_KNOWN_TO[first]}: choose another")
    return ApiKeys(keys["api_key"], keys["operator_key"], keys["metrics_key"], keys["status_key"])


def _shows(headers: Mapping[str, str], key: str) -> bool:
    shown = [headers.get("x-api-key", ""), _bearer(headers.get("authorization", ""))]
    return any([_are_equal(text, key) for text in shown])  # noqa: C419  # all of them, so that time tells nothing


def _bearer(authorization: str) -> str:
    scheme, _, token = authorization.partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _are_equal(one: str, other: str) -> bool:
    """Compare in a time that reveals neither the first difference nor the length of the key."""
    return hmac.compare_digest(_digest(one), _digest(other))


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
