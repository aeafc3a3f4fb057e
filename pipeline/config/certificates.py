"""Certificates of DICOM TLS (PS3.15 B.12, BCP 195): found, private, and fit for each other."""

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import secret
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.config.site_table import SiteConfiguration
from pipeline.errors import Configuration

CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"  # RFC 9325 4.2, for TLS 1.2; 1.3 has no others


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files, absolute: ours with its key, and of the authority that signs the peers'."""

    cert: Path
    key: Path
    ca: Path | None
    client_is_required: bool


def certificates_of(settings: SiteConfiguration, receiver: ReceiverTable) -> Certificates | None:
    """Return what the receiver's `tls` names, None where it has none.

    Raises Configuration where a file is missing, does not fit, or is a key others can read.
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
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise Configuration(f"{where}: the certificates cannot be used: {error}") from error
    return found


def server_context(certificates: Certificates) -> ssl.SSLContext:
    """Return what terminates TLS 1.2 or newer; raises OSError or ValueError where a file does not fit."""
    context = _context(ssl.PROTOCOL_TLS_SERVER)
    _load(context, certificates.cert, certificates.key)
    if certificates.ca:
        context.load_verify_locations(certificates.ca)
        context.verify_mode = ssl.CERT_REQUIRED if certificates.client_is_required else ssl.CERT_OPTIONAL
    return context


def client_context(where: str, ca: Path, own: tuple[Path, Path] | None) -> ssl.SSLContext:
    """Return what calls a peer: only certificates of `ca` are trusted, only for the name that is called.

    `own` is our certificate and its key. Raises Configuration naming the key below `where`, and the file.
    """
    context = _context(ssl.PROTOCOL_TLS_CLIENT)  # which verifies certificate and name
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
    except (OSError, ValueError) as error:  # an SSLError is an OSError
        raise Configuration(f"{what}: cannot be used: {error}") from error


def _context(protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(CIPHERS)
    context.options |= ssl.OP_NO_RENEGOTIATION | ssl.OP_NO_COMPRESSION
    return context


def _load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    # an encrypted key would make OpenSSL ask at a terminal nobody sits at
    context.load_cert_chain(cert, key, password=lambda: b"")
