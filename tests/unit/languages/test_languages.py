"""Every word a person reads stands once in each language, and the browser or the site chooses which."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from pipeline import disc, web
from pipeline import languages as translations
from pipeline.config.site_table import SiteTable
from pipeline.model import ArrivalState, DeliveryState, InstanceState, LeftOutCode, OrderStage, OrderState
from pipeline.site.waiting import WaitsFor
from pipeline.web.operator.acts import ACTS

ENGLISH = translations.languages()["en"]

ONLY_BY_COMMANDS = {"give-up", "drain", "undrain", "forget"}


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


TEMPLATES = sorted(Path(web.__file__).parent.glob("templates/**/*.html"))
OF_PROGRAMMERS = {"api_docs.html"}  # It shows the description of the interface, which is in English.
NO_WORDS = {"storestow", "GB", "ACCESSION"}


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda path: path.name)
def test_no_word_of_a_page_stands_anywhere_but_in_the_languages(template):
    """What is left of a template without its code and its elements are words that nobody translates."""
    if template.name in OF_PROGRAMMERS:
        return
    plain = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "", template.read_text(), flags=re.DOTALL)
    shown = re.findall(r'(?:placeholder|aria-label|alt|title|data-label)="([^"]*)"', plain)
    shown.append(re.sub(r"<[^>]*>", " ", plain))
    assert set(re.findall(r"[^\W\d_]{2,}", " ".join(shown))) <= NO_WORDS


def test_every_key_that_a_template_says_is_there():
    for template in [*TEMPLATES, *Path(disc.__file__).parent.glob("pages/templates/*.jinja")]:
        for kind, key in re.findall(r'words\.(say|count)\("([a-z_]+\.[a-z_]+)"[,)]', template.read_text()):
            section, _, word = key.partition(".")
            wanted = {word} if kind == "say" else {f"{word}_one", f"{word}_many"}
            assert wanted <= ENGLISH.table[section].keys(), (template.name, key)


def test_every_state_act_and_reason_has_its_word():
    states = (ArrivalState, InstanceState, DeliveryState, OrderState, OrderStage, WaitsFor)
    assert {str(word) for kind in states for word in kind} <= ENGLISH.table["operator_state"].keys()
    assert ENGLISH.table["operator_act"].keys() == ACTS.keys() | ONLY_BY_COMMANDS
    assert {str(code) for code in LeftOutCode} == ENGLISH.table["left_out"].keys()
