"""What the documents say is so: links lead somewhere, the example is a configuration, the commands exist."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.commands.cli import app
from pipeline.site import settings

REPOSITORY = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    path for pattern in ("*.md", "docs/**/*.md", "hooks/*.md", "bench/*.md") for path in REPOSITORY.glob(pattern)
)
README = (REPOSITORY / "README.md").read_text()
SPOKEN_OF = re.compile(r"\bstorestow (?!/)([a-z]+)(?: ([a-z]+))?")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def test_every_link_leads_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / link).exists(), link


def test_the_example_site_is_a_configuration(tmp_path: Path) -> None:
    site = "\n".join(blocks(README, "toml"))
    [mapping] = blocks(README, "json")
    (tmp_path / "site.toml").write_text(site)
    (tmp_path / "institution_mapping.json").write_text(mapping)
    loaded = settings.load(tmp_path / "site.toml")
    assert [receiver.name for receiver in loaded.receiver] == ["modalities", "cdrecord"]
    assert loaded.site.institution_mapping is not None
    assert json.loads(loaded.beside(loaded.site.institution_mapping).read_text())["CT1"]


def test_every_command_in_the_documents_exists() -> None:
    text = "\n".join(
        code
        for document in DOCUMENTS
        for code in re.findall(r"`(storestow [^`\n]+)`|^(storestow .*)$", document.read_text(), re.MULTILINE)
        for code in code
    )
    spoken_of = {match.groups() for match in SPOKEN_OF.finditer(text)}
    assert ("status", None) in spoken_of
    for command, word in sorted(spoken_of, key=str):
        words = [command, word] if command == "quarantine" and word else [command]
        known = CliRunner().invoke(app, [*words, "--help"])  # a process each would take half of the time of all
        assert known.exit_code == 0, words


def test_the_readme_holds_the_promise_and_its_limit() -> None:
    plain = " ".join(README.split())
    assert (
        "what storescp acknowledged survives the death of any process of ours, and a power cut from "
        '"admitted" on; what we hold is delivered and verified, or waiting with a reason and a time, or in '
        "quarantine with a reason. Nothing is lost, nothing is silently changed, nothing is delivered twice "
        "with different bytes."
    ).lower() in plain.lower()
    assert "page cache" in plain
