"""Gather the pages of the manual for `make manual`: each document of the repository, with its links adapted.

A link to a document becomes one to its page, a link to a file that is shipped beside the pages stays, and one to
source code becomes the path as text, because the site holds no code. A link that leads nowhere ends this program.
"""

import re
import shutil
import sys
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_LINK = re.compile(r"(?<!!)\[([^\]]*)\]\((?!https?:|mailto:|#)([^)#\s]+)(#[^)]*)?\)")
_FENCE = re.compile(r"(^ *```.*?^ *```)", re.MULTILINE | re.DOTALL)


def pages() -> dict[Path, str]:
    """Return every document that is a page, and its name in the site."""
    found = {ROOT / name: name.lower() for name in ("ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md")}
    found |= {ROOT / "README.md": "index.md", ROOT / "hooks/README.md": "hooks.md"}
    docs = ROOT / "docs"
    found |= {path: path.relative_to(docs).as_posix() for path in sorted(docs.rglob("*.md"))}
    return found


def files() -> dict[Path, str]:
    """Return what documents refer to and a reader may download, and its name in the site."""
    wanted = [ROOT / "docs" / name for name in ("nginx.conf", "site.schema.json")]
    wanted += sorted(path for kind in ("svg", "png") for path in (ROOT / "docs").glob(f"*.{kind}"))
    return {path: path.name for path in (*wanted, *sorted((ROOT / "monitoring").glob("*.*")))}


def page(path: Path) -> str:
    """Return a document as a page of the site; raises LookupError for a link that leads nowhere."""
    here = pages()[path]
    places = {**pages(), **files()}

    def link(match: re.Match[str]) -> str:
        text, target, anchor = match[1], (path.parent / match[2]).resolve(), match[3] or ""
        if target in places:
            ups = "../" * here.count("/")
            return f"[{text}]({ups}{places[target]}{anchor})"
        if not target.exists():
            raise LookupError(f"{path}: {match[2]} is not there")
        shown = target.relative_to(ROOT).as_posix()
        return text if shown in text else f"{text} (`{shown}`)"

    parts = _FENCE.split(path.read_text(encoding="utf-8"))
    return "".join(part if number % 2 else _LINK.sub(link, part) for number, part in enumerate(parts))


def decisions() -> str:
    """Return a page that lists the decisions of weight by their headings."""
    found = sorted((ROOT / "docs/adr").glob("*.md"))
    heads = [path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ") for path in found]
    rows = [f"- [{head}]({path.name})" for head, path in zip(heads, found, strict=True)]
    return "\n".join(("# Decisions", "", *rows, ""))


def gather(folder: Path) -> None:
    """Write all pages and files of the site into the empty folder `folder`."""
    for path, name in pages().items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(page(path), encoding="utf-8")
    (folder / "adr/index.md").write_text(decisions(), encoding="utf-8")
    for path, name in files().items():
        shutil.copyfile(path, folder / name)


def slug(text: str, separator: str) -> str:
    """Return the anchor of a heading as links in the documents have it: as code hosting sites make them."""
    plain = re.sub(r"[^\w\- ]", "", unicodedata.normalize("NFC", text).lower())
    return plain.replace(" ", separator)


def main() -> int:
    """Write the pages into the folder named on the command line, which is made anew."""
    folder = Path(sys.argv[1])
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    gather(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
