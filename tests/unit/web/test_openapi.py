"""Requests made from our own OpenAPI description, and answers held against it: status, type and schema."""

import functools
import re
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support.sites.shim_site import FOUND, KEY, running_shim

from pipeline.model import OrderState
from pipeline.web import health, patient_names
from pipeline.web.openapi import description

DOCUMENT = description()
OPERATIONS = sorted(DOCUMENT["paths"])
TYPES = {"string": str, "integer": int, "boolean": bool, "array": list, "object": dict, "null": type(None)}


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch, running_shim(tmp_path_factory.mktemp("shim"), patch) as running:
        patch.setattr(patient_names.PatientNames, "name_of", lambda *_: "DOE^JANE")
        patch.setattr(health, "look_at", lambda _: [("pacs", True, True, "answers")])
        running.orders.plan = {"state": OrderState.DONE, "found": FOUND, "result": running.file(), "sent": 3}
        yield running


def problems(value: Any, schema: dict[str, Any], where: str = "answer") -> list[str]:
    """Return what of a value is not as its schema says, of the words the description uses."""
    if "$ref" in schema:
        schema = functools.reduce(dict.__getitem__, schema["$ref"].removeprefix("#/").split("/"), DOCUMENT)
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and type(value) not in [TYPES[kind] for kind in kinds]:
        return [f"{where}: {value!r} is no {kinds}"]
    found = [f"{where} has no {key}" for key in schema.get("required", ()) if key not in value]
    if value not in schema.get("enum", [value]):
        found.append(f"{where}: {value!r} is none of {schema['enum']}")
    if isinstance(value, int) and value < schema.get("minimum", value):
        found.append(f"{where}: {value} is too little")
    for key, part in schema.get("properties", {}).items():
        found += problems(value[key], part, f"{where}.{key}") if key in value else []
    for one in value if "items" in schema else ():
        found += problems(one, schema["items"], f"{where}[]")
    return found


def as_described(parameter: dict[str, Any]) -> st.SearchStrategy[str]:
    schema = parameter["schema"]
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    return (
        st.from_regex(schema["pattern"].replace("^", r"\A", 1).replace("$", r"\Z"))
        if "pattern" in schema
        else st.text(max_size=30)
    )


def queries(path: str) -> st.SearchStrategy[dict[str, str]]:
    """Return what may stand behind the question mark: as described, as nobody described it, and left out."""
    ways = {}
    for parameter in DOCUMENT["paths"][path]["get"].get("parameters", ()):
        ways[parameter["name"]] = as_described(parameter) | as_described(parameter) | st.text(max_size=40)
    return st.fixed_dictionaries({}, optional=ways)


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "X-API-Key": st.just(KEY) | st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1),
        "Accept": st.sampled_from(["text/html", "application/json", "*/*", "image/png", ";;,"]),
        "Range": st.from_regex(r"\Abytes=[0-9]{0,5}-[0-9]{0,5}\Z"),
        "Sec-Purpose": st.just("prefetch"),
    },
)


def problems_of(shim, path, query, headers, method="GET") -> list[str]:
    answer = shim.request(method, path, key=None, params=query, headers=headers)
    if method not in {"GET", "HEAD"}:
        return [] if answer.status_code in {200, 401, 405} else [f"{method} {answer.status_code}"]
    described = DOCUMENT["paths"][path]["get"]["responses"].get(str(answer.status_code))
    if described is None:
        return [f"{answer.status_code} is not described"]
    kind = answer.headers.get("Content-Type", "").partition(";")[0]
    content = described.get("content", {})
    if method == "HEAD":
        return []
    if kind and kind not in content:
        return [f"{kind} is not described for {answer.status_code}"]
    schema = content.get(kind, {}).get("schema", {})
    return problems(answer.json(), schema) if schema else []


@pytest.mark.parametrize("path", OPERATIONS)
def test_every_answer_is_one_that_the_description_promises(shim, path):
    @settings(
        max_examples=25,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(queries(path), HEADERS, st.sampled_from(["GET"] * 8 + ["HEAD", "POST", "PUT", "DELETE"]))
    def asked(query, headers, method):
        assert problems_of(shim, path, query, headers, method) == []

    asked()


@pytest.mark.parametrize("path", [path for path in OPERATIONS if "health" not in path])
def test_what_the_description_allows_is_served(shim, path):
    @settings(
        max_examples=15,
        deadline=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(as_described(DOCUMENT["paths"][path]["get"]["parameters"][0]))
    def asked(numbers):
        if len(numbers) > 100 or (path == "/patient/by-accession" and "," in numbers):
            return
        answer = shim.get(path, params={"accession_number": numbers})
        assert answer.status_code == (501 if path == "/patient/by-accession" else 200), (numbers, answer.text)

    asked()


def test_an_answer_that_is_not_as_described_is_found():
    schema = {"$ref": "#/components/schemas/Error"}
    assert problems({"error": "unauthorized", "request_id": "1"}, schema) == []
    for wrong in ({"error": "no such word", "request_id": "1"}, {"error": "unauthorized"}, [], {"request_id": 1}):
        assert problems(wrong, schema)
    assert re.fullmatch(DOCUMENT["paths"]["/mkiso.php"]["get"]["parameters"][0]["schema"]["pattern"], "A-1,B/2")
