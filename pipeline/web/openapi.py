"""The interface described for programs (OpenAPI 3.1), generated from the same tables as the answers."""

from collections import defaultdict
from typing import Any

from pipeline import __version__
from pipeline.dicom.same_patient import Attribute
from pipeline.orders.compare_sources import IdentitySource
from pipeline.web.http_errors import ErrorKind, kinds
from pipeline.web.order_addresses import LINKS
from pipeline.web.order_request import Verb

_SUMMARIES = {
    Verb.DOWNLOAD: "Retrieve a study and send it as a disc image named {ACCESSION}.iso",
    Verb.DOWNLOAD_MULTIPLE: "Retrieve studies of one patient as one image named {PATIENT_NAME}-{ACCESSIONS}.iso",
    Verb.PRINT: "Retrieve studies of one patient and send them to the CD publisher, once",
    Verb.FORWARD: "Retrieve studies of one patient and send them to another archive, once",
}
_MODALITIES = "^[A-Z0-9_]{1,16}(,[A-Z0-9_]{1,16}){0,19}$"
_TEXT: dict[str, Any] = {"type": "string"}
_ONE = r"[!-)+\-->@-\[\]-~]{1,64}"  # Printable ASCII without * ? backslash and comma.
_NUMBERS = f"^{_ONE}(,{_ONE}){{0,19}}$"
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}
_OLD_LINK = "An address of the programs this one replaces; it means the same."


def description() -> dict[str, Any]:
    """Return the whole description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "storestow: studies by accession number",
            "version": __version__,
            "description": "Every answer carries X-Request-ID. JSON is the default; a browser gets a page.",
        },
        "security": [{"key": []}, {"bearer": []}],
        "paths": {
            **{path: {"get": _link(path, verb)} for path, verb in LINKS.items()},
            "/patient/by-accession": {"get": _by_accession()},
            "/api/health": {"get": _health()},
        },
        "components": {
            "securitySchemes": {
                "key": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
                "bearer": {"type": "http", "scheme": "bearer"},
            },
            "schemas": {"Error": _error(), "Sent": _sent(), "Person": _person()},
        },
    }


def _link(path: str, verb: Verb) -> dict[str, Any]:
    parameters = [_accessions(), *_choices(verb)]
    if verb.makes_a_file:
        answers: dict[str, Any] = {
            "200": _file("The image"),
            "206": _file("The part Range asked for"),
            "304": {"description": "If-None-Match names the image there is"},
        }
    else:
        answers = {"200": _json("Every instance has been taken", "Sent")}
    return {
        "summary": _SUMMARIES[verb],
        "description": _OLD_LINK
        if path.endswith(".php")
        else "Answers when the order has ended, which may be minutes.",
        "operationId": f"{verb} {path}".replace("/", "-").replace(" ", ""),
        "parameters": parameters,
        "responses": {**answers, "303": {"description": "To the page of the order, for browsers"}, **_errors()},
    }


def _accessions() -> dict[str, Any]:
    text = "One accession number, or several with commas; accession_numbers is another spelling of the same"
    return {**_parameter("accession_number", text, {"type": "string", "pattern": _NUMBERS}), "required": True}


def _choices(verb: Verb) -> list[dict[str, Any]]:
    choices = [
        _parameter(
            "modality", "Only series of these modalities, as MR,CT", {"type": "string", "pattern": _MODALITIES}
        ),
        _parameter("missing", "Go on although the archive does not know some of the numbers", _words("allow")),
        _parameter("incomplete", "Go on although not all instances came", _words("yes")),
        _parameter("again", "Do it once more although it has just been done", _words("1")),
        _parameter("format", "Instead of what Accept says", _words("html", "json")),
    ]
    if verb.makes_a_file:
        choices.append(_parameter("container", "What is made", _words("iso", "zip")))
    if verb is Verb.FORWARD:
        choices.append(_parameter("to", "One of the destinations of [shim] forward; else the first", _TEXT))
    return choices


def _parameter(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "description": text, "schema": schema}


def _words(*words: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(words)}


def _errors() -> dict[str, Any]:
    by_status: dict[int, list[ErrorKind]] = defaultdict(list)
    for kind in kinds():
        if kind.status != 405:
            by_status[kind.status].append(kind)
    return {
        str(status): _json(" / ".join(dict.fromkeys(kind.words for kind in some)), "Error")
        for status, some in by_status.items()
    }


def _json(text: str, schema: str) -> dict[str, Any]:
    content: dict[str, Any] = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    if schema == "Error":
        content["text/html"] = {}  # The same answer as a page for people.
    return {"description": text, "content": content}


def _file(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/octet-stream": {}}}


def _by_accession() -> dict[str, Any]:
    return {
        "summary": "Who an accession number is of, from the tables of [patients]",
        "operationId": "by-accession",
        "parameters": [_accessions()],
        "responses": {"200": _json("Known", "Person"), **_errors()},
    }


def _health() -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {"status": _words("ok", "degraded", "down"), "parts": {"type": "object"}},
        "required": ["status"],
    }
    content = {"application/json": {"schema": schema}}
    return {
        "summary": "Whether orders can be served; peers are asked every 30 seconds at most",
        "operationId": "health",
        "security": [],
        "responses": {
            "200": {"description": "ok or degraded; parts only with the key", "content": content},
            "503": {"description": "down", "content": content},
        },
    }


def _error() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "error": {"type": "string", "enum": list(dict.fromkeys(kind.words for kind in kinds()))},
            "detail": _TEXT,
            "missing": {"type": "array", "items": _TEXT},
            "differing": _differences(),
            **dict.fromkeys(("received", "expected", "failed", "sent", "refused"), _COUNT),
            "destination": _TEXT,
            "unclaimed_from": {"type": "array", "items": _unclaimed()},
            "request_id": _TEXT,
        },
        "required": ["error", "request_id"],
    }


def _unclaimed() -> dict[str, Any]:
    properties = {"ae_title": _TEXT, "address": {"type": ["string", "null"]}, "instances": _COUNT}
    return {"type": "object", "properties": properties, "required": list(properties)}


def _sent() -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            "status": _words("ok"),
            "accessions_sent": {"type": "array", "items": _TEXT},
            "patient_name": {"type": ["string", "null"]},
            "destination": _TEXT,
            "files_sent": _COUNT,
            "already_sent": {"type": "boolean"},
            **dict.fromkeys(("received", "counted", "accession_differs"), _COUNT),
            **dict.fromkeys(("noted", "differing"), _differences()),
            "identity": _words("not asked"),
            "request_id": _TEXT,
        },
        "required": ["status", "accessions_sent", "destination", "files_sent", "already_sent", "request_id"],
    }


def _differences() -> dict[str, Any]:
    row = {
        "type": "object",
        "properties": {
            "accession_number": _TEXT,
            "between": {"type": "array", "items": _words(*IdentitySource)},
            "attributes": {"type": "array", "items": _words(*Attribute)},
        },
        "required": ["accession_number", "between", "attributes"],
    }
    return {"type": "array", "items": row}


def _person() -> dict[str, Any]:
    nullable = {"type": ["string", "null"]}
    fields = ("medrec_id", "reg_id", "patient_name", "modality", "study_description")
    return {
        "type": "object",
        "properties": {"accession_number": _TEXT, **dict.fromkeys(fields, nullable)},
        "required": ["accession_number", *fields],
    }
