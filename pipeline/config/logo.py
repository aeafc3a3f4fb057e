"""The hospital's logo: a PNG or SVG file of bounded size, which can start nothing and load nothing."""

from pathlib import Path
from xml.etree import ElementTree as ET

from pipeline.errors import Configuration

LARGEST = 256 << 10  # Bytes.
MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
_PNG = b"\x89PNG\r\n\x1a\n"
_ACTIVE = frozenset({"script", "foreignobject", "iframe", "object", "embed", "a", "animate", "set", "handler"})


def read_logo(path: Path) -> bytes:
    """Return the content of the logo at `path`.

    Raises Configuration, with the remedy, if it is missing, too large, of another kind, or an SVG file with
    scripts, links or anything it would load from elsewhere.
    """
    if path.suffix.lower() not in MEDIA_TYPES:
        raise Configuration(f"[site] logo: {path} is neither .png nor .svg")
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
    except OSError as error:
        raise Configuration(f"[site] logo: {path} cannot be read: {error.strerror}") from error
    if len(content) > LARGEST:
        raise Configuration(f"[site] logo: {path} has more than {LARGEST >> 10} KiB: make it smaller")
    if path.suffix.lower() == ".png":
        if not content.startswith(_PNG):
            raise Configuration(f"[site] logo: {path} is no PNG file, whatever its name says")
    elif problem := _problem_of(content):
        raise Configuration(f"[site] logo: {path}: {problem}")
    return content


def _problem_of(content: bytes) -> str | None:
    """Return what an SVG file must not have; None if it is a plain drawing."""
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        return "it has a document type declaration: save it as plain SVG"
    try:
        root = ET.fromstring(content)  # noqa: S314  # without a document type there are no entities to expand
    except ET.ParseError as error:
        return f"it is no well-formed SVG file: {error}"
    if _plain(root.tag) != "svg":
        return "it is no SVG file, whatever its name says"
    for element in root.iter():
        if _plain(element.tag) in _ACTIVE:
            return f"it has an element {_plain(element.tag)}: save it as a plain drawing"
        for name, value in element.attrib.items():
            if _plain(name).startswith("on") or (
                _plain(name) == "href" and not value.startswith(("#", "data:image/"))
            ):
                return f"its attribute {_plain(name)} starts or loads something: save it as a plain drawing"
    return None


def _plain(name: object) -> str:
    """Return the name of an element or attribute without its namespace, in lower case."""
    return str(name).rpartition("}")[2].lower()
