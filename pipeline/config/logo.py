"""The hospital's logo: a PNG or SVG file of bounded size, which can start nothing and load nothing.

On our pages a Content-Security-Policy forbids both anyway. A person opens a logo on a disc by hand, where no such
policy holds.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

from pipeline.errors import Configuration

LARGEST = 256 << 10  # Bytes.
MEDIA_TYPES = {".png": "image/png", ".svg": "image/svg+xml"}
_PNG = b"\x89PNG\r\n\x1a\n"
_ACTIVE = frozenset({"script", "foreignobject", "iframe", "object", "embed", "a", "animate", "set", "handler"})
_XHTML = "{http://www.w3.org/1999/xhtml}"  # Its elements load what their src names, in a drawing too.
_ENCODING = re.compile(r"""<\?xml\s[^>]*?encoding\s*=\s*["']([^"']*)""")
_INSIDE = r"#|data:image/(?!svg)"  # A drawing within the drawing is not looked at.
_HREF = re.compile(_INSIDE)
# In style sheets and attributes. A backslash spells the other words in a way that is not found here.
_LOADING = re.compile(rf"""\\|@import|image-set\(|\bsrc\(|url\((?!\s*["']?(?:{_INSIDE}))""", re.IGNORECASE)


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
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return "it is not in UTF-8: save it as plain SVG"
    return next(_problems_of_text(text), None) or next(_problems_of_drawing(text), None)


def _problems_of_text(text: str) -> Iterator[str]:
    """Yield what makes a browser read the text otherwise than we do."""
    encoding = _ENCODING.match(text)
    if "\0" in text:  # UTF-16 without a mark, which an XML parser recognizes by its zeros.
        yield "it is not in UTF-8: save it as plain SVG"
    if encoding and encoding[1].upper() != "UTF-8":
        yield f"it says that it is in {encoding[1]!r}: save it in UTF-8"
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        yield "it has a document type declaration: save it as plain SVG"
    if "<?xml-stylesheet" in text:
        yield "it names a style sheet of its own: save it as plain SVG"


def _problems_of_drawing(text: str) -> Iterator[str]:
    """Yield what starts or loads something; `text` has no document type, so there are no entities to expand."""
    try:
        root = ET.fromstring(text)  # noqa: S314  # see above
    except ET.ParseError as error:
        yield f"it is no well-formed SVG file: {error}"
        return
    if _plain(root.tag) != "svg":
        yield "it is no SVG file, whatever its name says"
    for element in root.iter():
        if _plain(element.tag) in _ACTIVE or str(element.tag).startswith(_XHTML):
            yield f"it has an element {_plain(element.tag)}: save it as a plain drawing"
        if _plain(element.tag) == "style" and (len(element) or _LOADING.search(element.text or "")):
            yield "its style loads something: save it as a plain drawing"
        for name, value in element.attrib.items():
            if _starts_or_loads(name, value):
                yield f"its attribute {_plain(name)} starts or loads something: save it as a plain drawing"


def _starts_or_loads(name: str, value: str) -> bool:
    """Say whether an attribute starts a script or loads something from outside of the file."""
    plain = _plain(name)
    if plain.startswith("on") or plain == "base":
        return True
    if plain == "href":
        return not _HREF.match(value)
    return not name.startswith("{") and bool(_LOADING.search(value))  # Styles have no namespace.


def _plain(name: object) -> str:
    """Return the name of an element or attribute without its namespace, in lower case."""
    return str(name).rpartition("}")[2].lower()
