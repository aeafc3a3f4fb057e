"""The address of an instance: what may stand in a template, and what comes of it."""

import pytest
from support.studies.small_studies import make_item

from pipeline.destinations import from_table
from pipeline.dicomweb.urls import address, checked_template
from pipeline.errors import Configuration

BASE = "http://archive:8080/dcm4chee-arc/aets/%@/rs/studies"


@pytest.mark.parametrize(
    ("calling", "segment"),
    [
        ("CT1", "CT1"),
        ("CT 1", "CT%201"),
        (" CT1 ", "CT1"),
        ("A/B", "A%2FB"),
        ("..%2F", "..%252F"),
        ("A?x=1#y", "A%3Fx%3D1%23y"),
        ("$(reboot)", "%24%28reboot%29"),
        ("{institution}", "%7Binstitution%7D"),
    ],
)
@pytest.mark.parametrize("word", ["%@", "{calling_aet}"])
def test_a_word_becomes_one_path_segment(tmp_path, calling, segment, word):
    url = address(BASE.replace("%@", word), make_item(tmp_path, 1, calling=calling))
    assert url == f"http://archive:8080/dcm4chee-arc/aets/{segment}/rs/studies"


def test_every_word_can_stand_in_one_url(tmp_path):
    item = make_item(tmp_path, 1, institution="Clínica Sur / 2")
    url = address("http://h/{called_aet}/{institution}/%@/studies", item)
    assert url == "http://h/STORESTOW/Cl%C3%ADnica%20Sur%20%2F%202/CT1/studies"


def test_percent_escapes_of_the_site_stay(tmp_path):
    assert address("http://h/a%20b/studies", make_item(tmp_path, 1)) == "http://h/a%20b/studies"


@pytest.mark.parametrize("institution", [None, "", "  "])
def test_an_empty_institution_makes_no_url(tmp_path, institution):
    item = make_item(tmp_path, 1, calling="MR\x022", institution=institution)
    with pytest.raises(Configuration, match="institution_mapping") as error:
        address("http://h/{institution}/studies", item)
    assert r'"MR\u00022": "<InstitutionName>"' in str(error.value)


def test_a_trailing_slash_is_left_out():
    assert checked_template("http://h/rs/studies/") == "http://h/rs/studies"


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("ftp://h/studies", "http"),
        ("http:///studies", "http"),
        ("archive:8080/studies", "http"),
        ("http://user:pw@h/studies", "auth"),
        ("http://h/studies?PatientID=1", "query"),
        ("http://h/studies#x", "query"),
        ("http://%@.example.org/studies", "host"),
        ("http://h/{calling}/studies", "{calling}"),
        ("http://h/{/studies", "brace"),
        ("http://h/rs", "/studies"),
    ],
)
def test_a_url_that_cannot_work_is_refused_when_it_is_read(url, word):
    with pytest.raises(ValueError, match="url") as error:
        from_table({"name": "a", "kind": "stow", "url": url})
    assert word in str(error.value)
    assert "pw" not in str(error.value).split("[type=")[0]
