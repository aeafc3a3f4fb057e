"""What must hold for every body we send and every reply we get."""

import hashlib
import json
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.peers.fake_dcm4chee import _parts

from pipeline.dicomweb.multipart import Body, new_boundary
from pipeline.dicomweb.response import parse
from pipeline.dicomweb.urls import address
from pipeline.model import InstanceKey, Item
from pipeline.spool.store_file import component


def item_of(path: Path, calling: str = "CT1") -> Item:
    content = path.read_bytes()
    key = InstanceKey("1.2", "1.3", path.name)
    digest = hashlib.sha256(content).hexdigest()
    return Item(key, path, digest, len(content), "1", "1", calling, "STORESTOW", "Here")


pieces = st.binary(max_size=400) | st.sampled_from([b"\r\n--", b"\r\n", b"--\r\n", b"x" * 300_000])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(contents=st.lists(pieces, min_size=1, max_size=5))
def test_a_strict_parser_reads_back_what_was_sent_and_the_length_is_right(tmp_path, contents):
    items = []
    for number, content in enumerate(contents):
        path = tmp_path / str(number)
        path.write_bytes(content)
        items.append(item_of(path))
    boundary = new_boundary()
    body = Body(items, boundary)
    sent = b"".join(bytes(block) for block in body)
    assert len(sent) == len(body)
    assert list(_parts(iter([sent]), boundary.encode())) == [
        ("application/dicom", content) for content in contents
    ]
    assert b"".join(bytes(block) for block in body) == sent  # a replay sends the same


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner) | st.dictionaries(st.sampled_from(["Value", "vr", "00081155", "00081197"]), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(["00081190", "00081198", "00081199", "0008119A"]), json_values, min_size=1))
def test_no_reply_however_odd_makes_the_account_fail(reply):
    found = parse(json.dumps(reply).encode())
    assert found is not None
    assert not found.stored.keys() & found.failed.keys()


@given(st.binary(max_size=300))
def test_no_body_however_odd_makes_the_account_fail(body):
    parse(body)


@given(st.text(max_size=200))
def test_a_path_component_is_safe_and_always_the_same(text):
    made = component(text)
    assert made == component(text)
    assert 0 < len(made) <= 64
    assert not made.startswith(".")
    assert all(c.isascii() and (c.isalnum() or c in "._-") for c in made)
    assert component(made) == made


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(calling=st.text(min_size=1, max_size=16).filter(lambda text: text.strip() not in {"", ".", ".."}))
def test_a_word_never_leaves_its_path_segment(tmp_path, calling):
    path = tmp_path / "1.4"
    path.write_bytes(b"")
    url = address("http://h/aets/%@/rs/studies", item_of(path, calling))
    assert url.count("/") == 6
    assert not set(url) & set("?#\\ ")
    assert url.isascii()
