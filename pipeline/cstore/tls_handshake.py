"""The requestor's side of DICOM TLS (PS3.15 B.12): the handshake, and the meaning of its failures.

A fault that a person must correct is a configuration error; a peer that hangs up or does not answer is tried
again later.
"""

import contextlib
import socket
import ssl
from dataclasses import dataclass

from pipeline.errors import Configuration, PeerUnavailable, StorestowError

ALERT = 0x15  # The first byte with which a TLS peer answers plain DICOM, RFC 8446 5.1.
_NO_TLS = {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST", "PACKET_LENGTH_TOO_LONG"}
_NOTHING_IN_COMMON = {
    *("UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION", "TLSV1_ALERT_INSUFFICIENT_SECURITY"),
    *("DH_KEY_TOO_SMALL", "WRONG_SSL_VERSION", "NO_SHARED_CIPHER", "WRONG_CIPHER_RETURNED"),
}
_VERIFICATION = {
    9: "its certificate is not valid yet; look at the clock here and there",
    10: "its certificate has expired; it needs a new one",
    62: "its certificate is not made out to {name}; if it is the right peer, write its name there as server_name",
    64: "its certificate is not made out to {name}; if it is the right peer, write its name there as server_name",
    **dict.fromkeys((18, 19, 20, 21), "its certificate is not signed by an authority of ours; check ca"),
}  # Error codes X509_V_ERR_…, openssl/x509_vfy.h.


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """The TLS context, the name the peer's certificate must have, and whether we can present a certificate."""

    context: ssl.SSLContext
    server_name: str
    has_certificate: bool


def encrypted(connected: socket.socket, encryption: TlsIdentity, peer: str, seconds: float) -> ssl.SSLSocket:
    """Return the connection with TLS around it; the peer's certificate and name are verified.

    Raises:
        Configuration: a certificate, a name or a version does not match; a person must change it.
        PeerUnavailable: the peer does not complete the handshake. Try later.
    """
    connected.settimeout(seconds)
    try:
        return encryption.context.wrap_socket(connected, server_hostname=encryption.server_name)
    except OSError as error:  # SSLError is an OSError; the socket is closed by then.
        connected.close()
        raise error_of(peer, encryption, error) from error


def error_of(peer: str, encryption: TlsIdentity, error: BaseException | None) -> StorestowError:
    """Return the error for a handshake, or for the first exchange after it, that failed with `error`.

    In TLS 1.3 a peer that rejects our certificate says so only after our side has completed the handshake.
    """
    if isinstance(error, ssl.SSLCertVerificationError):
        words = _VERIFICATION.get(error.verify_code, f"its certificate is not trusted: {error.verify_message}")
        return Configuration(f"{peer}: {words.format(name=encryption.server_name)}")
    reason = (error.reason or "") if isinstance(error, ssl.SSLError) else ""
    if reason in _NO_TLS:
        return Configuration(f"{peer} speaks no TLS on that port; check port, or leave out tls")
    if reason in _NOTHING_IN_COMMON:
        return Configuration(f"{peer} and we have no TLS 1.2 or newer in common, with cipher suites of BCP 195")
    if "ALERT" in reason and any(word in reason for word in ("CERT", "UNKNOWN_CA", "ACCESS_DENIED", "HANDSHAKE")):
        return Configuration(f"{peer} {_does_not_want_us(encryption)} ({_spoken(reason)})")
    perhaps = "it may speak plain DICOM there"
    if not encryption.has_certificate:
        perhaps += ", or want a certificate of ours (cert, key)"
    hint = "" if isinstance(error, TimeoutError) else f"; {perhaps}"
    return PeerUnavailable(f"{peer} does not go on with TLS: {_words(error)}{hint}")


def hang_up(connected: socket.socket) -> None:
    """Close the connection; in TLS send close_notify first (RFC 8446 6.1), without waiting for the peer's."""
    if isinstance(connected, ssl.SSLSocket):
        with contextlib.suppress(OSError, ValueError):
            connected.setblocking(False)
            connected.unwrap()
    connected.close()


def _does_not_want_us(encryption: TlsIdentity) -> str:
    if encryption.has_certificate:
        return "refuses our certificate; check cert and key, and which authority it trusts"
    return "wants a certificate of ours; write cert and key"


def _spoken(reason: str) -> str:
    return reason.partition("ALERT_")[2].replace("_", " ").lower()


def _words(error: BaseException | None) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.replace("_", " ").lower()
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return "it closed the connection"
