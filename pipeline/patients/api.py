"""kind = "api": ask the HIS over HTTP, as docs/patient-api.md describes it."""

import json
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pipeline.config import secret
from pipeline.config.order_tables import PatientsTable
from pipeline.dicom.accession import AccessionNumber, spellings
from pipeline.dicomweb.auth import NoAuth
from pipeline.dicomweb.http_client import HttpClient, HttpTimeouts, Reply
from pipeline.errors import StorestowError
from pipeline.patients import (
    FIELDS,
    WHO,
    Patients,
    PatientsUnavailable,
    PatientUnknown,
    Person,
    text_or_none,
    told,
)

PAUSE_SECONDS = 0.2  # Pause before the second attempt; twice that before the third.
_TRY_AGAIN = frozenset({429, 500, 502, 503, 504})


class ApiPatients(Patients):
    """Send GET {url}/patient/by-accession, several times if there is no answer."""

    def find(self, accession: AccessionNumber, files: Iterable[Path]) -> Person:  # noqa: ARG002
        """Return what the API answers; see `Patients.find` for what it raises."""
        reply = self._answered(accession)
        if reply.status == 404:
            raise PatientUnknown("the patient API does not know the accession number")
        if reply.status != 200:
            raise PatientsUnavailable(f"the patient API answers {_in_words(reply.status)}")
        return _person(accession, reply)

    def _answered(self, accession: AccessionNumber) -> Reply:
        last = self.table.retries
        for attempt in range(last + 1):
            try:
                reply = self._asked(accession)
            except StorestowError as error:
                if attempt == last:
                    raise PatientsUnavailable(f"the patient API: {error}") from error
            else:
                if reply.status not in _TRY_AGAIN or attempt == last:
                    return reply
            time.sleep(PAUSE_SECONDS * 2**attempt)
        raise AssertionError("unreachable")

    def _asked(self, accession: AccessionNumber) -> Reply:
        table, seconds = self.table, self.table.timeout.total_seconds()
        answer = (table.answer_timeout or table.timeout).total_seconds()
        with HttpClient(NoAuth(), HttpTimeouts(seconds, seconds, answer), headers=_headers(table)) as door:
            return door.get(f"{table.url.rstrip('/')}/patient/by-accession", {"accession_number": accession})


def _headers(table: PatientsTable) -> dict[str, str]:
    headers = {"Accept": "application/json"}
    if table.key_env is not None or table.key_file is not None:
        key = secret.read("key", table.key_env, table.key_file)
        headers[table.key_header] = f"Bearer {key}" if table.key_header == "Authorization" else key
    return headers


def _text_of(reply: Reply) -> str | bytes:
    """Return the body as text; without a declared character set, JSON tells its own (RFC 8259, 8.1).

    Web servers declare one for files that are UTF-8 (AddDefaultCharset), so what can be UTF-8 is read as that.
    What has no byte above 127 may be a character set of seven bits, so there the declared one comes first.
    """
    if not reply.charset:
        return reply.body
    charsets = ["utf-8-sig", reply.charset]
    for charset in reversed(charsets) if reply.body.isascii() else charsets:
        with suppress(UnicodeError, LookupError):
            return reply.body.decode(charset)
    return reply.body


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object; raises ValueError for a key that is there twice: it may name two patients."""
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key is there twice")
    return dict(pairs)


def _person(accession: AccessionNumber, reply: Reply) -> Person:
    try:
        body: Any = json.loads(_text_of(reply), object_pairs_hook=_each_key_once)
    except (ValueError, RecursionError) as error:
        raise PatientsUnavailable("the patient API answers 200 without JSON, or names a key twice") from error
    if not isinstance(body, dict):
        raise PatientsUnavailable("the patient API answers 200 with JSON that is no object")
    said = text_or_none(body.get("accession_number"))
    if said is not None and not spellings(accession, [said]):
        raise PatientsUnavailable("the patient API answers about another accession number than it was asked for")
    if body.get("error") or body.get("success") is False:
        raise PatientsUnavailable("the patient API answers 200 with an error")
    if odd := [
        field for field in WHO if body.get(field) is True or not isinstance(body.get(field), str | int | None)
    ]:
        raise PatientsUnavailable(f"the patient API answers with a {odd[0]} that is neither text nor a number")
    person = Person(accession, **{field: told(field, body.get(field)) for field in FIELDS})
    if not (person.medrec_id or person.patient_name):
        if body.keys() >= {"accession_number", *FIELDS}:
            raise PatientUnknown(
                "the patient API knows neither medrec_id nor patient_name of the accession number"
            )
        raise PatientsUnavailable(
            "the patient API answers 200 without medrec_id and patient_name; see the docs of it"
        )
    return person


def _in_words(status: int) -> str:
    if status in {401, 403}:
        return f"{status}: it refuses our key, see [patients] key_env, key_file, key_header"
    return str(status)


PATIENTS = ApiPatients
