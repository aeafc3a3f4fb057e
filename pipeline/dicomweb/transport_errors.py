"""Classify a request that ends without an HTTP reply, from the exceptions of the libraries."""

import ssl
from collections.abc import Iterator
from urllib.parse import urlsplit

import requests
from urllib3.exceptions import HTTPError, NewConnectionError

from pipeline.dicomweb.send_timeout import AnswerTooSlow
from pipeline.errors import Configuration, PeerUnavailable, StorestowError, Transient


class NoReply(Transient):
    """Say that a request may have been carried out, but no reply came: ask the archive before repeating it."""

    def __init__(self, message: str, *, timed_out: bool) -> None:
        super().__init__(message)
        self.timed_out = timed_out


def classified(error: requests.RequestException, url: str) -> StorestowError:
    """Return the error for a request that ended without reply.

    It is Configuration for a fault of TLS, PeerUnavailable if nothing can have been sent, and otherwise NoReply.
    """
    peer, causes = peer_of(url), list(_causes(error))
    for cause in causes:
        if isinstance(cause, ssl.SSLError) and (hint := _tls_hint(cause)):
            return Configuration(f"{peer} {hint}")
    if isinstance(error, requests.ConnectTimeout):
        return PeerUnavailable(f"{peer} does not answer")
    if any(isinstance(cause, NewConnectionError) for cause in causes):
        return PeerUnavailable(f"{peer} cannot be connected to: {_in_words(causes)}")
    if any(isinstance(cause, AnswerTooSlow) for cause in causes):
        return NoReply(f"{peer} had not answered completely within answer_timeout", timed_out=True)
    if isinstance(error, requests.ReadTimeout) or any(isinstance(cause, TimeoutError) for cause in causes):
        return NoReply(f"{peer} did not reply in time", timed_out=True)
    return NoReply(f"the connection to {peer} broke: {_in_words(causes)}", timed_out=False)


def _tls_hint(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return (
            f"shows a certificate that is not trusted ({error.verify_message}); "
            "set ca_bundle to a file with the certificate authority that signed it"
        )
    reason = error.reason or ""
    if reason in {"WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"}:
        return "speaks no TLS there; check https:// and the port in url"
    if "ALERT" in reason and any(word in reason for word in ("CERT", "HANDSHAKE", "UNKNOWN_CA", "ACCESS_DENIED")):
        return f'refuses our certificate ({reason}); check auth = {{ kind = "mtls", cert, key }}'
    return ""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield the error and all errors inside it: requests and urllib3 keep causes in several places."""
    seen: set[int] = set()
    waiting: list[object] = [error]
    while waiting:
        cause = waiting.pop()
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            waiting += [*cause.args, getattr(cause, "reason", None), cause.__cause__, cause.__context__]


def _in_words(causes: list[BaseException]) -> str:
    for cause in causes:
        if isinstance(cause, OSError) and not isinstance(cause, requests.RequestException) and cause.strerror:
            return cause.strerror
    for cause in causes:
        if isinstance(cause, HTTPError):
            return type(cause).__name__
    return type(causes[0]).__name__


def peer_of(url: str) -> str:
    """Return scheme, host and port of `url` for a message, without user name and password."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
