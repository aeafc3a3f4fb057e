"""The manual has a page for every document; each link of a page leads to a page and a heading that are there."""

import importlib.util
import json
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("manual", ROOT / "docs/manual.py")
manual = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(manual)

NAVIGATION = (ROOT / "mkdocs.yml").read_text()
PAGES = manual.pages()


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("manual")
    manual.gather(folder)
    return folder


def anchors(text: str) -> set[str]:
    outside = re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", outside, re.MULTILINE)
    return {manual.slug(re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head.replace("`", "")), "-") for head in heads}


def test_every_page_stands_in_the_navigation_once():
    listed = re.findall(r"(?:: |- )([\w/.-]+\.md)$", NAVIGATION, re.MULTILINE)
    decisions = {name for name in PAGES.values() if name.startswith("adr/")}
    assert sorted(listed) == sorted({*PAGES.values(), "adr/index.md"} - decisions)
    assert set(re.findall(r"\]\(([\w.-]+)\)", manual.decisions())) == {
        name.removeprefix("adr/") for name in decisions
    }


@pytest.mark.parametrize("name", sorted(PAGES.values()))
def test_every_link_of_a_page_leads_to_a_page_and_a_heading(site, name):
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)]*))?\)", (site / name).read_text()):
        there = (site / name).parent / target if target else site / name
        assert there.is_file(), target
        if anchor and there.suffix == ".md":
            assert anchor in anchors(there.read_text()), f"{target}#{anchor}"


def test_a_link_that_leads_nowhere_and_one_to_code_are_told_apart(tmp_path, monkeypatch):
    document = tmp_path / "page.md"
    monkeypatch.setattr(manual, "ROOT", tmp_path)
    monkeypatch.setattr(manual, "pages", lambda: {document: "page.md"})
    monkeypatch.setattr(manual, "files", dict)
    (tmp_path / "code.py").touch()
    document.write_text("see [the code](code.py)\n```\n[kept](nowhere)\n```\n")
    assert manual.page(document) == "see the code (`code.py`)\n```\n[kept](nowhere)\n```\n"
    document.write_text("[gone](gone.md)")
    with pytest.raises(LookupError, match=r"gone\.md is not there"):
        manual.page(document)


def test_it_loads_no_font_and_nothing_else_from_elsewhere():
    assert "  font: false" in NAVIGATION
    assert not re.search(r"https?://", NAVIGATION)


@pytest.mark.long
def test_the_site_is_built_and_refers_to_nothing_outside(tmp_path):
    subprocess.run(["make", "manual", "sbom"], cwd=ROOT, check=True)
    pages = list((ROOT / ".make/site").rglob("*.html"))
    assert len(pages) > len(PAGES)
    for page in pages:
        assert not re.search(r"<(?:script|link|img)[^>]*https?://", page.read_text()), page
    found = json.loads((ROOT / "dist/storestow.cdx.json").read_text())
    locked = re.findall(r"^([a-z0-9._-]+)==(\S+) ", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert {(it["name"], it["version"]) for it in found["components"]} == set(locked)
