"""What code and documents refer to lies in the repository: documents, their headings, and no others."""

import re
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
SOURCES = sorted(
    path
    for pattern in (
        "pipeline/**/*.py",
        "hooks/*",
        "tests/**/*.py",
        "demo/*.py",
        "bench/*.py",
        "docs/**/*.md",
        "*.md",
    )
    for path in REPOSITORY.glob(pattern)
    if path.is_file()
)
OF_CODE = [path for path in SOURCES if path.suffix != ".md"]
NAMED = re.compile(r"\b(docs/(?:adr/)?[a-z0-9-]+(?:\.md|\.conf)?)(?:, ([A-Z][a-z][A-Za-z ]*))?")
ELSEWHERE = re.compile(
    r"\((?:design|facts|style|scale|house)[ /.][^)]*\d[^)]*\)|\bstyle rule\b|\bfacts/[a-z]+\.md\b"
)


def headings(document: Path) -> set[str]:
    return set(re.findall(r"^#+ (.+)$", document.read_text(), re.MULTILINE))


def test_every_document_that_code_names_is_there_and_has_the_heading() -> None:
    missing = []
    for source in OF_CODE:
        for name, heading in NAMED.findall(source.read_text(errors="replace")):
            document = REPOSITORY / name
            if document.suffix == "":  # an ADR by its number alone
                is_there = bool(list(document.parent.glob(f"{document.name}*")))
            else:
                is_there = document.exists() and (document.suffix != ".md" or has(document, heading))
            missing += [] if is_there else [(str(source.relative_to(REPOSITORY)), name, heading)]
    assert missing == []


def has(document: Path, heading: str) -> bool:
    return not heading or any(heading.startswith(one) or one.startswith(heading) for one in headings(document))


def test_nothing_refers_to_documents_that_are_not_in_the_repository() -> None:
    found = [
        (str(source.relative_to(REPOSITORY)), reference)
        for source in SOURCES
        if source != Path(__file__)
        for reference in ELSEWHERE.findall(source.read_text(errors="replace"))
    ]
    assert found == []
