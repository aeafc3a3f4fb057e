"""Ask one site for its state, within its deadlines and with a limit on what is read."""

import io
from dataclasses import dataclass
from enum import StrEnum

from pydantic import ValidationError

from pipeline.config import secret
from pipeline.config.fleet_tables import FleetSiteTable
from pipeline.dicomweb.auth import NoAuth
from pipeline.dicomweb.http_client import HttpClient, HttpTimeouts, Reply
from pipeline.errors import Configuration, PeerUnavailable, Transient
from pipeline.fleet.site_report import SiteReport

STATUS_PATH = "/api/status"
MOST_BYTES = 256 << 10  # The longest report of ours has about 100 KiB.


class SiteFailure(StrEnum):
    """Why nothing is known of a site now."""

    UNREACHABLE = "unreachable"  # No connection.
    NO_REPLY = "no-reply"  # A connection, and no whole answer in time.
    WRONG_KEY = "wrong-key"
    NO_STATUS = "no-status"  # It has no status key, or is an older release.
    ODD_STATUS = "odd-status"  # Another HTTP status than these; a proxy whose site is down.
    MALFORMED = "malformed"
    TOO_LARGE = "too-large"
    CONFIGURATION = "configuration"  # Our key file or its certificate.
    NOT_ASKED = "not-asked"  # Not yet.


@dataclass(frozen=True, slots=True)
class SiteAnswer:
    """What asking came to: a report, or why there is none; `detail` is for our log and `check` alone."""

    report: SiteReport | None
    failure: SiteFailure | None = None
    detail: str = ""


def ask_site(table: FleetSiteTable) -> SiteAnswer:
    """Return what the site says of itself; every failure is an answer, too."""
    connect, answer = table.connect_timeout.total_seconds(), table.answer_timeout.total_seconds()
    body = io.BytesIO()
    try:
        # nginx replaces X-API-Key by the key of the links.
        headers = {"Authorization": f"Bearer {secret.read('key', table.key_env, table.key_file)}"}
        waits = HttpTimeouts(connect, answer, answer)
        with HttpClient(NoAuth(), waits, ca_bundle=table.ca_bundle, headers=headers) as client:
            reply = client.fetch(f"{table.url}{STATUS_PATH}", "application/json", body, MOST_BYTES)
    except Configuration as error:
        return SiteAnswer(None, SiteFailure.CONFIGURATION, str(error))
    except PeerUnavailable as error:
        return SiteAnswer(None, SiteFailure.UNREACHABLE, str(error))
    except Transient as error:
        return SiteAnswer(None, SiteFailure.NO_REPLY, str(error))
    return _read(reply, body.getvalue())


def _read(reply: Reply, body: bytes) -> SiteAnswer:
    if reply.status != 200:
        known = {401: SiteFailure.WRONG_KEY, 403: SiteFailure.WRONG_KEY, 404: SiteFailure.NO_STATUS}
        failure = known.get(reply.status, SiteFailure.ODD_STATUS)
        return SiteAnswer(None, failure, f"it answers {reply.status}")
    if reply.is_too_large:
        return SiteAnswer(None, SiteFailure.TOO_LARGE, f"its answer has more than {MOST_BYTES >> 10} KiB")
    try:
        return SiteAnswer(SiteReport.model_validate_json(body))
    except ValidationError as error:
        # Only our names of keys are repeated, never what the site wrote.
        where = ".".join(map(str, error.errors(include_input=False, include_url=False)[0]["loc"]))
        return SiteAnswer(
            None, SiteFailure.MALFORMED, f"its answer is no status: {where or 'it is no JSON object'}"
        )
