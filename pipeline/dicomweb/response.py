"""Parse an archive's account of a STOW-RS request (PS3.18 10.5.3, Annex I), for every HTTP status."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

RETRIEVE_URL = "00081190"
FAILED_SOP_SEQUENCE = "00081198"
REFERENCED_SOP_SEQUENCE = "00081199"
OTHER_FAILURES_SEQUENCE = "0008119A"  # Its items name no instance; it shows that the body is a store response.
REFERENCED_SOP_INSTANCE_UID = "00081155"
WARNING_REASON = "00081196"
FAILURE_REASON = "00081197"

_MARKS = {RETRIEVE_URL, FAILED_SOP_SEQUENCE, REFERENCED_SOP_SEQUENCE, OTHER_FAILURES_SEQUENCE}


@dataclass(frozen=True, slots=True)
class StoreResponse:
    """The instances in the archive's account, by SOP Instance UID.

    `stored` maps to the Warning Reason or None, `failed` to the Failure Reason or None. An instance in both
    sequences is in neither mapping, because such an account proves nothing.
    """

    stored: Mapping[str, int | None]
    failed: Mapping[str, int | None]


def parse(body: bytes) -> StoreResponse | None:
    """Return the account in `body`, which may be JSON or XML with any media type; None if there is no account."""
    data_sets = [found for found in _from_json(body) or _from_xml(body) if _MARKS & found.keys()]
    if not data_sets:
        return None
    stored: dict[str, int | None] = {}
    failed: dict[str, int | None] = {}
    for data_set in data_sets:
        stored.update(_listed(data_set.get(REFERENCED_SOP_SEQUENCE), WARNING_REASON))
        failed.update(_listed(data_set.get(FAILED_SOP_SEQUENCE), FAILURE_REASON))
    both = stored.keys() & failed.keys()
    return StoreResponse(
        {uid: reason for uid, reason in stored.items() if uid not in both},
        {uid: reason for uid, reason in failed.items() if uid not in both},
    )


def values(data_set: Mapping[str, Any], tag: str) -> list[Any]:
    """Return the values of a DICOM JSON attribute (PS3.18 F.2); [] if it is absent, empty or malformed."""
    attribute = data_set.get(tag)
    found = attribute.get("Value") if isinstance(attribute, dict) else None
    return found if isinstance(found, list) else []


def text(data_set: Mapping[str, Any], tag: str) -> str:
    """Return the first value as text without padding, "" if there is none."""
    found = values(data_set, tag)
    return str(found[0]).strip(" \0") if found and isinstance(found[0], str | int) else ""


def data_sets_in(body: bytes) -> list[dict[str, Any]] | None:
    """Return the data sets of a DICOM JSON body, an object or an array; None for any other body."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list) or not all(isinstance(data_set, dict) for data_set in found):
        return None
    return found


def _from_json(body: bytes) -> Iterator[dict[str, Any]] | None:
    found = data_sets_in(body)
    return iter(found) if found is not None else None


def _listed(sequence: Any, reason_tag: str) -> Iterator[tuple[str, int | None]]:
    for item in values({"": sequence}, ""):
        if isinstance(item, dict) and (uid := text(item, REFERENCED_SOP_INSTANCE_UID)):
            yield uid, _number(text(item, reason_tag))


def _number(word: str) -> int | None:
    """Return a US value; some archives write it as text."""
    return int(word) if word.isascii() and word.isdigit() and len(word) <= 5 else None


def _from_xml(body: bytes) -> Iterable[dict[str, Any]]:
    """Return the Native DICOM Model (PS3.19 A.1) in the shape of DICOM JSON."""
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        return []
    try:
        return [_data_set(ET.fromstring(body))]  # noqa: S314  # the way in of every XML attack is refused above
    except (ET.ParseError, ValueError, LookupError, RecursionError):  # LookupError: an unknown encoding.
        return []


def _data_set(element: ET.Element) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for attribute in _children(element, "DicomAttribute"):
        items: list[Any] = [_data_set(item) for item in _children(attribute, "Item")]
        found[attribute.get("tag", "").upper()] = {
            "Value": items or [value.text or "" for value in _children(attribute, "Value")]
        }
    return found


def _children(element: ET.Element, name: str) -> Iterator[ET.Element]:
    return (child for child in element if child.tag.rpartition("}")[2] == name)
