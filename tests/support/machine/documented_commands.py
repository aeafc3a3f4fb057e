"""The command lines of ours in the documents, as words behind `storestow`."""

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
DOCUMENTS = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
_SHELL = re.compile(r"^ *```\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
_OURS = re.compile(r"(?:^|/bin/)storestow(?= )")
PLACEHOLDERS = {"ORDER": "1", "NUMBER": "1", "COMMAND": "status"}


def lines_of(text: str) -> list[str]:
    """Return the command lines of shell blocks and of inline code, without comments."""
    joined = text.replace("\\\n", " ")
    blocks = [line.strip() for block in _SHELL.findall(joined) for line in block.splitlines()]
    inline = re.findall(r"`(storestow [^`\n]+)`", joined)
    return [re.split(r"\s+#\s|\s{3,}", line)[0] for line in (*blocks, *inline)]


def ours(text: str) -> list[list[str]]:
    """Return the words behind `storestow` of every command line that has them."""
    found = []
    for line in lines_of(text):
        if (match := _OURS.search(line)) and not line.startswith("apt-get"):
            try:
                words = shlex.split(line[match.end() :])
            except ValueError:
                continue  # A quotation across two lines of prose.
            if words and re.fullmatch(r"[a-z-]+", words[0]):
                found.append([PLACEHOLDERS.get(word, word) for word in words if word not in {"...", "…"}])
    return found
