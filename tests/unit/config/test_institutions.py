"""The institution mapping: who is found by what, and which mapping is refused."""

import json
import plistlib

import pytest

from pipeline.config.institutions import Institutions, line_to_paste, read
from pipeline.errors import Configuration

NAMES = {"CT1": "By AE title", "192.0.2.17": "By address", "modalities": "By receiver"}


def mapping(folder, names=None, *, name="map.json"):
    path = folder / name
    path.write_text(json.dumps(NAMES if names is None else names), encoding="utf-8")
    return path


def test_the_calling_ae_title_comes_before_the_address_and_the_address_before_the_receiver(tmp_path):
    institutions = read(mapping(tmp_path))
    assert institutions.of("CT1", "192.0.2.17", "modalities") == "By AE title"
    assert institutions.of("CT9", "192.0.2.17", "modalities") == "By address"
    assert institutions.of("CT9", "192.0.2.99", "modalities") == "By receiver"
    assert institutions.of("CT9", None, "elsewhere") is None


def test_padding_around_an_ae_title_says_nothing(tmp_path):
    institutions = read(mapping(tmp_path, {" CT1 ": " Example Hospital "}))
    assert institutions.of("CT1  ", None, "r") == "Example Hospital"


def test_ae_titles_are_told_apart_by_case(tmp_path):
    assert read(mapping(tmp_path)).of("ct1", None, "elsewhere") is None


@pytest.mark.parametrize("peer", ["192.0.2.17", "::ffff:192.0.2.17"])
def test_an_ipv4_peer_of_an_ipv6_socket_is_the_same_peer(tmp_path, peer):
    assert read(mapping(tmp_path)).of("", peer, "") == "By address"


def test_an_ipv6_address_is_found_however_it_is_spelt(tmp_path):
    institutions = read(mapping(tmp_path, {"2001:DB8:0:0::1": "Six"}))
    assert institutions.of("", "2001:db8::1", "") == "Six"


@pytest.mark.parametrize("kind", [plistlib.FMT_XML, plistlib.FMT_BINARY])
def test_the_old_property_list_is_taken_as_it_is(tmp_path, kind):
    path = tmp_path / "institutionMapping.plist"
    path.write_bytes(plistlib.dumps({"CT1": "Clínica São José", "10.0.0.7": "Norte"}, fmt=kind))
    institutions = read(path)
    assert institutions.of("CT1", None, "r") == "Clínica São José"
    assert institutions.of("X", "10.0.0.7", "r") == "Norte"


def test_a_byte_order_mark_at_the_beginning_is_no_mistake(tmp_path):
    path = tmp_path / "map.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(NAMES).encode())
    assert read(path).of("CT1", None, "") == "By AE title"


def test_a_name_of_64_characters_is_the_longest(tmp_path):
    assert read(mapping(tmp_path, {"CT1": "é" * 64})).of("CT1", None, "") == "é" * 64


@pytest.mark.parametrize(
    ("names", "wrong"),
    [
        ({"CT1": "x" * 65}, r'map\.json: "CT1": .*65.*maximum length of 64'),
        ({"CT1": "A\\B"}, r'map\.json: "CT1": it has 2 values'),
        ({"CT1": "A\nB"}, r'map\.json: "CT1": it holds a control character'),
        ({"CT1": "A\u0085B"}, r'map\.json: "CT1": it holds a control character'),
        ({"CT1": "A\ud800"}, r'map\.json: "CT1": it holds half a character'),
        ({"CT1": "  "}, r'map\.json: "CT1": the institution is empty'),
        ({"CT1": 7}, r'map\.json: "CT1": the institution must be a text'),
        ({"CT1": {"CT2": "x"}}, r'map\.json: "CT1": the institution must be a text'),
        ({" ": "x"}, r"map\.json: a key is empty"),
        ({"CT1": "x", " CT1": "y"}, r'map\.json: the key "CT1" is given 2 times'),
        ({"192.0.2.1": "x", "::ffff:192.0.2.1": "y"}, r'map\.json: the key "192\.0\.2\.1" is given 2 times'),
        (["CT1"], r"map\.json: the mapping must be one object"),
        ([{"CT1": "x"}], r"map\.json: the mapping must be one object"),
    ],
)
def test_a_wrong_mapping_is_refused_by_file_and_key(tmp_path, names, wrong):
    with pytest.raises(Configuration, match=wrong):
        read(mapping(tmp_path, names))


def test_a_key_given_twice_is_not_silently_the_last(tmp_path):
    path = tmp_path / "map.json"
    path.write_text('{"CT1": "North", "CT1": "South"}')
    with pytest.raises(Configuration, match='the key "CT1" is given 2 times'):
        read(path)


def test_every_mistake_is_told_at_once(tmp_path):
    with pytest.raises(Configuration) as told:
        read(mapping(tmp_path, {"CT1": "", "CT2": "x" * 65}))
    assert len(str(told.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("map.json", b"{", "not JSON"),
        ("map.json", b"\xff\xfe{", "not JSON"),
        ("map.plist", b"<plist", "not a property list"),
        ("map.plist", b"bplist00\x01", "not a property list"),
        ("map.plist", b"", "not a property list"),
        ("map.plist", plistlib.dumps(["CT1"]), "must be a dictionary"),
    ],
)
def test_a_file_that_is_no_mapping_is_refused_by_its_name(tmp_path, name, content, wrong):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(Configuration, match=rf"{name}: .*{wrong}"):
        read(tmp_path / name)


def test_a_missing_mapping_is_refused_by_its_name(tmp_path):
    with pytest.raises(Configuration, match="cannot be read: No such file"):
        read(tmp_path / "none.json")


def test_the_line_to_paste_is_a_line_of_the_mapping():
    assert line_to_paste('A"B', "192.0.2.1", "modalities") == r'"A\"B": "<InstitutionName>"'
    assert line_to_paste(" ", "192.0.2.1", "modalities") == '"192.0.2.1": "<InstitutionName>"'
    assert line_to_paste("", None, "modalities") == '"modalities": "<InstitutionName>"'


def test_the_shipped_example_is_a_mapping(pytestconfig):
    assert read(pytestconfig.rootpath / "institution_mapping.json") != Institutions()
