"""Certificates for DICOM TLS (PS3.15 B.12, BCP 195): find them, check that keys are private and match."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import secret
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.config.site_table import SiteConfiguration
from pipeline.errors import Configuration

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # RFC 9325 4.2, for TLS 1.2; TLS 1.3 has its own list.


@dataclass(frozen=True, slots=True)
class Certificates:
    """Absolute paths of PEM files: our certificate, its key, and the authority of the peers' certificates."""

    cert: Path
    key: Path
    ca: Path | None
    client_is_required: bool


def certificates_of(settings: SiteConfiguration, receiver: ReceiverTable) -> Certificates | None:
    """Return the certificates that the receiver's `tls` names, None if it has none.

    Raises Configuration if a file is missing, does not match, or is a key that others can read.
    """
    if receiver.tls is None:
        return None
    where, table = f'receiver "{receiver.name}".tls', receiver.tls
    found = Certificates(
        settings.beside(table.cert),
        secret.private(f"{where}.key", settings.beside(table.key)),
        settings.beside(table.ca) if table.ca else None,
        table.require_client_certificate,
    )
    try:
        server_context(found)
    except (OSError, ValueError) as error:  # SSLError is an OSError.
        raise Configuration(f"{where}: the certificates cannot be used: {error}") from error
    return found


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """Return a TLS server context, TLS 1.2 or newer; raises OSError or ValueError if a file does not fit."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load(context, certificates.cert, certificates.key)
    if certificates.ca:
        context.load_verify_locations(certificates.ca)
        context.verify_mode = ssl.CERT_REQUIRED if certificates.client_is_required else ssl.CERT_OPTIONAL
    return context


def client_context(where: str, ca: Path, own: tuple[Path, Path] | None) -> ssl.SSLContext:
    """Return a TLS client context that trusts only `ca`, and only for the host name that is called.

    `own` is our certificate and its key. Raises Configuration, which names the key below `where` and the file.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)  # This protocol verifies certificate and host name.
    with _named(f"{where}.ca: {ca}"):
        context.load_verify_locations(ca)
    if own:
        secret.private(f"{where}.key", own[1])
        with _named(f"{where}.cert: {own[0]} with its key"):
            _load(context, *own)
    return context


@contextmanager
def _named(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:  # SSLError is an OSError.
        raise Configuration(f"{what}: cannot be used: {error}") from error


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    # For an encrypted key OpenSSL would ask for the password at a terminal that nobody watches.
    context.load_cert_chain(cert, key, password=lambda: b"")
