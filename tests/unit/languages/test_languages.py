"""Every word a person reads stands once in each language, and the browser or the site chooses which."""

import re
import tomllib
from typing import get_args

import pytest

from pipeline import languages as translations
from pipeline.config.site_table import SiteTable

ENGLISH = translations.languages()["en"]


def flat(table, before=""):
    for key, value in table.items():
        if isinstance(value, dict):
            yield from flat(value, f"{before}{key}.")
        else:
            yield before + key, value


@pytest.mark.parametrize("code", sorted(translations.languages()))
def test_every_language_has_every_sentence_with_the_same_blanks_to_fill(code):
    blanks = re.compile(r"\{\w+\}")
    theirs, ours = (dict(flat(translations.languages()[one].table)) for one in (code, "en"))
    assert theirs.keys() == ours.keys()
    for key, sentence in theirs.items():
        assert sorted(blanks.findall(sentence)) == sorted(blanks.findall(ours[key])), key
        said = sentence.format(**dict.fromkeys(re.findall(r"\{(\w+)\}", sentence), "x"))
        assert said.strip() == said
        assert sentence


def test_no_sentence_of_another_language_was_left_in_english():
    english = dict(flat(ENGLISH.table))
    for code, language in translations.languages().items():
        same = [key for key, said in flat(language.table) if said == english[key] and re.search(r"\w \w", said)]
        assert code == "en" or not same


@pytest.mark.parametrize(
    ("accept_language", "code"),
    [
        ("es-AR,es;q=0.9,en;q=0.8", "es"),
        ("id-ID,id;q=0.9,en-US;q=0.8", "id"),
        ("en-US,en;q=0.5", "en"),
        ("fr,de;q=0.7,es;q=0.3", "es"),
        ("es;q=0,en", "en"),
        ("en;q=0.1,es;q=0.9", "es"),
        ("", "en"),
        ("*", "en"),
        (";;;q=,x=1", "en"),
        ("es;q=nonsense,en", "en"),
        ("../../etc/passwd", "en"),
    ],
)
def test_the_browser_chooses_the_language(accept_language, code):
    assert translations.chosen(accept_language).code == code


@pytest.mark.parametrize(("accept_language", "code"), [("", "id"), ("fr", "id"), ("es", "es")])
def test_where_the_browser_names_no_language_of_ours_the_site_does(accept_language, code):
    assert translations.chosen(accept_language, "id").code == code


def test_a_site_may_name_every_language_there_is():
    named = get_args(SiteTable.model_fields["language"].annotation)
    assert sorted(named) == sorted(translations.languages())


def test_sizes_are_written_as_people_write_them():
    assert ENGLISH.size(1_234_567_890) == "1.2 GB"
    assert translations.languages()["es"].size(650_000_000) == "650,0 MB"
    assert ENGLISH.size(12) == "1 kB"


def test_the_words_are_files_of_their_own():
    for file in translations.HERE.glob("*.toml"):
        assert tomllib.loads(file.read_text())["language"]
