"""HTTP statuses that concern the archive as a whole and no single instance (PS3.18 8.5)."""

import email.utils
import math

from pipeline.dicomweb.http_client import Reply
from pipeline.dicomweb.transport_errors import peer_of
from pipeline.errors import Configuration, PeerUnavailable, StorestowError

_BUSY = {408, 425, 429, 502, 503, 504, 507}
_REFUSED = {
    401: "refused our credentials; check auth",
    403: "does not let us in; the user needs a role at the archive, or the AE title does not accept it",
    404: "has nothing at that path, or no such AE title, or an AE title without STOW-RS and QIDO-RS; check url",
    405: "does not take this method; check url",
    406: "does not speak DICOM JSON; check url",
    410: "has nothing at that path any more; check url",
    415: "does not take DICOM in multipart/related; check url",
    501: "does not offer this service; check url",
    505: "does not speak HTTP/1.1",
}


def of_the_archive(reply: Reply, url: str, now: float) -> StorestowError | None:
    """Return the error that a status means for the whole archive, None if it concerns this request only.

    `now` is in seconds since the epoch, for a Retry-After that is a date. A 404 may come from an archive that is
    still starting; therefore a delivery with a Configuration error is deferred and tried again.
    """
    status = reply.status
    if status in _BUSY:
        return PeerUnavailable(
            f"{url} is not available now (HTTP {status})",
            retry_after_seconds=retry_after_seconds(reply.retry_after, now),
        )
    if 300 <= status < 400:
        where = f" to {reply.location_host}" if reply.location_host else ""
        return Configuration(f"{url} redirects{where} (HTTP {status}); set url to the archive itself, or auth")
    if 200 <= status < 300 and reply.media_type == "text/html":
        return Configuration(
            f"{peer_of(url)} answered with a page for people; is it a login or a proxy? Check url"
        )
    if status in _REFUSED:
        return Configuration(f"{url} {_REFUSED[status]} (HTTP {status})")
    return None


def retry_after_seconds(header: str, now: float) -> float | None:
    """Return the seconds of a Retry-After (RFC 9110 10.2.3), a number or a date; None for any other text."""
    if header.isascii() and header.isdigit():
        return float(header)
    try:
        when = email.utils.parsedate_to_datetime(header)
        seconds = when.timestamp() - now
    except (ValueError, TypeError, OverflowError):
        return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
