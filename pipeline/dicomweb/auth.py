"""How we authenticate at the archive: none, basic, bearer, oauth2 (client credentials) or mtls."""

import base64
import functools
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, model_validator

from pipeline.config import secret
from pipeline.config.keys import AbsolutePath
from pipeline.errors import Configuration, PeerUnavailable

_EARLY_SECONDS = 30.0  # A token is renewed this long before it expires, so that it stays valid during its request.


_T = TypeVar("_T", bound=BaseModel)

PostForm = Callable[[str, Mapping[str, str]], tuple[int, bytes]]  # A call with (url, form) returns (status, body).


class _Auth(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @model_validator(mode="before")
    @classmethod
    def _no_secret_in_the_file(cls, table: Any) -> Any:
        for key in ("password", "token", "client_secret"):
            if isinstance(table, dict) and key in table:
                raise ValueError(f"{key} does not belong in this file; write {key}_env or {key}_file")
        return table

    def certificate(self) -> tuple[str, str] | None:
        """Return the files of our certificate and its key, None if we present no certificate."""
        return None

    def authorization(self, post_form: PostForm) -> str | None:  # noqa: ARG002  # only oauth2 has somebody to ask
        """Return the Authorization header, None if there is none; `post_form` sends a form to a token endpoint."""
        return None

    def renewed(self, refused: str | None, post_form: PostForm) -> str | None:  # noqa: ARG002
        """Return another Authorization header after `refused` was answered with 401, or None."""
        return None


class NoAuth(_Auth):
    """Send no credentials."""

    kind: Literal["none"] = "none"


class Basic(_Auth):
    """Send user name and password (RFC 7617)."""

    kind: Literal["basic"]
    user: str
    """Name of the user. Example: `"storestow"`"""
    password_env: str | None = None
    """Environment variable that holds the password. Example: `"ARCHIVE_PASSWORD"`"""
    password_file: AbsolutePath | None = None
    """File that holds the password, readable by its owner alone. Example: `"/etc/storestow/archive.password"`"""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return _exactly_one(self, "password")

    def authorization(self, post_form: PostForm) -> str:  # noqa: ARG002
        """Return the header for user and password."""
        pair = f"{self.user}:{secret.read('password', self.password_env, self.password_file)}"
        return "Basic " + base64.b64encode(pair.encode()).decode("ascii")


class Bearer(_Auth):
    """Send a token that does not change (RFC 6750)."""

    kind: Literal["bearer"]
    token_env: str | None = None
    """Environment variable that holds the token. Example: `"ARCHIVE_TOKEN"`"""
    token_file: AbsolutePath | None = None
    """File that holds the token, readable by its owner alone. Example: `"/etc/storestow/archive.token"`"""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        return _exactly_one(self, "token")

    def authorization(self, post_form: PostForm) -> str:  # noqa: ARG002
        """Return the header for the token."""
        return _bearer(secret.read("token", self.token_env, self.token_file))


class OAuth2(_Auth):
    """Fetch tokens with client credentials (RFC 6749 4.4), as dcm4chee's Keycloak requires."""

    kind: Literal["oauth2"]
    token_url: str
    """Address of the token endpoint.
    Example: `"https://sso.example.org/realms/dcm4che/protocol/openid-connect/token"`"""
    client_id: str
    """Our name there. Example: `"storestow"`"""
    client_secret_env: str | None = None
    """Environment variable that holds the client's secret. Example: `"ARCHIVE_SECRET"`"""
    client_secret_file: AbsolutePath | None = None
    """File that holds the client's secret, readable by its owner alone.
    Example: `"/etc/storestow/archive.secret"`"""
    scope: str = ""
    """Scope to ask for, where the endpoint wants one. Example: `"dicomweb"`"""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if not self.token_url.startswith(("http://", "https://")):
            raise ValueError(f"token_url = {self.token_url!r} is no http:// or https:// address")
        return _exactly_one(self, "client_secret")

    def authorization(self, post_form: PostForm) -> str:
        """Return the header for a token that is still valid, if necessary a new one; raises as `fetched` does."""
        return _tokens(self).current(post_form, time.monotonic())

    def renewed(self, refused: str | None, post_form: PostForm) -> str | None:
        """Return the header for a token other than the refused one; raises as `fetched` does."""
        _tokens(self).forget(refused)
        return self.authorization(post_form)

    def fetched(self, post_form: PostForm) -> tuple[str, float]:
        """Ask the token endpoint once; return the header and its validity in seconds.

        Raises PeerUnavailable if the endpoint does not answer now, Configuration if it refuses the client.
        """
        form = {
            "grant_type": "client_credentials",
            "client_id": self.client_id,
            "client_secret": secret.read("client_secret", self.client_secret_env, self.client_secret_file),
        }
        status, body = post_form(self.token_url, form | ({"scope": self.scope} if self.scope else {}))
        if status == 429 or status >= 500:
            raise PeerUnavailable(f"the token endpoint {self.token_url} answered HTTP {status}")
        if status != 200:
            raise Configuration(
                f"the token endpoint {self.token_url} refused client_id {self.client_id} with HTTP {status}; "
                "check token_url, client_id and the client's secret"
            )
        return _token_in(body, self.token_url)


class MutualTls(_Auth):
    """Present our own certificate."""

    kind: Literal["mtls"]
    cert: AbsolutePath
    """Our certificate. Example: `"/etc/storestow/storestow.crt"`"""
    key: AbsolutePath
    """Its private key, readable by its owner alone. Example: `"/etc/storestow/storestow.key"`"""

    def certificate(self) -> tuple[str, str]:
        """Return our certificate and its key; raises Configuration if others can read the key."""
        if not self.cert.is_file():
            raise Configuration(f"cert: {self.cert} does not exist")
        return str(self.cert), str(secret.private("key", self.key))


Auth = Annotated[NoAuth | Basic | Bearer | OAuth2 | MutualTls, Field(discriminator="kind")]


@dataclass
class _Tokens:
    """The token of one client in this process, shared by all its deliveries."""

    config: OAuth2
    lock: threading.Lock = field(default_factory=threading.Lock)
    header: str | None = None
    good_until: float = 0.0

    def current(self, post_form: PostForm, now: float) -> str:
        with self.lock:
            if self.header is None or now >= self.good_until:
                self.header, seconds = self.config.fetched(post_form)
                self.good_until = now + max(seconds - _EARLY_SECONDS, seconds / 2)
            return self.header

    def forget(self, refused: str | None) -> None:
        with self.lock:
            if self.header == refused:  # Otherwise another thread has renewed it already.
                self.header = None


@functools.cache
def _tokens(config: OAuth2) -> _Tokens:
    return _Tokens(config)


def _token_in(body: bytes, url: str) -> tuple[str, float]:
    try:
        reply = json.loads(body)
        token, seconds = reply["access_token"], float(reply.get("expires_in", 60))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Configuration(
            f"the token endpoint {url} answered without an access_token; check token_url"
        ) from error
    return _bearer(str(token)), seconds


def _bearer(token: str) -> str:
    if not token.isascii() or not token.isprintable() or " " in token:
        raise Configuration("the token holds characters that no token has")
    return f"Bearer {token}"


def _exactly_one(table: _T, key: str) -> _T:
    if (getattr(table, f"{key}_env") is None) == (getattr(table, f"{key}_file") is None):
        raise ValueError(f"write one of {key}_env and {key}_file")
    return table
