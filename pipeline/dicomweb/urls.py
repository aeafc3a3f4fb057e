"""Make the address of an instance at the archive from a URL template with placeholders."""

import json
import re
from urllib.parse import quote, urlsplit

from pipeline.errors import Configuration
from pipeline.events import escaped
from pipeline.model import Item

_WORD = re.compile(r"%@|\{([^{}]*)\}")
_WORDS = ("calling_aet", "called_aet", "institution")


def checked_template(url: str) -> str:
    """Return the template without a trailing slash; raises ValueError, which says what is wrong.

    A query would make a dcm4chee archive coerce attributes, and a placeholder in the host would let a peer choose
    the host.
    """
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"url = {url!r} is no http:// or https:// address")
    if parts.query or parts.fragment or "?" in url or "#" in url:
        raise ValueError("url has a query or fragment; write only the path of the studies")
    if _WORD.search(parts.netloc):
        raise ValueError("url has a placeholder in its host; placeholders stand in the path only")
    if parts.username is not None or parts.password is not None:
        raise ValueError("url holds a user name or password; use auth with password_env or password_file")
    for match in _WORD.finditer(url):
        if match[0] != "%@" and match[1] not in _WORDS:
            raise ValueError(f"url: {match[0]} is none of %@, {', '.join('{' + w + '}' for w in _WORDS)}")
    bare = url.rstrip("/")
    if "{" in _WORD.sub("", bare) or "}" in _WORD.sub("", bare):
        raise ValueError("url has a brace that belongs to no placeholder")
    if not bare.endswith("/studies"):
        raise ValueError("url must end in /studies, as in http://host:8080/dcm4chee-arc/aets/DCM4CHEE/rs/studies")
    return bare


def is_fixed(template: str) -> bool:
    """Say whether the address is the same for every instance."""
    return not _WORD.search(template)


def address(template: str, item: Item) -> str:
    """Return the studies URL for `item`; each placeholder is filled with one percent-encoded path segment.

    Raises Configuration for a value that is empty, `.` or `..`, if possible with the line to paste into the
    mapping.
    """
    values = {
        "calling_aet": item.calling_ae_title,
        "called_aet": item.called_ae_title,
        "institution": item.institution or "",
    }

    def segment(match: re.Match[str]) -> str:
        word = match[1] or "calling_aet"
        value = values[word].strip()
        if value in {"", ".", ".."}:
            raise Configuration(_missing(word, value, item))
        return quote(value, safe="")

    return _WORD.sub(segment, template)


def _missing(word: str, value: str, item: Item) -> str:
    if word == "institution" and not value:
        return "no institution is mapped, and the destination's url needs one; " + line_to_paste(item)
    name = {"calling_aet": "calling AE title", "called_aet": "called AE title"}.get(word, "institution")
    what = f"is {escaped(value)}, which cannot stand in a url" if value else "is empty"
    return f"the {name} {what}; the destination's url needs it"


def line_to_paste(item: Item) -> str:
    """Return a sentence with the line that is missing in institution_mapping.json."""
    who = item.calling_ae_title.strip()
    key = json.dumps(who[:64]) if who else '"<IP address or receiver name>"'
    return f'add this line to institution_mapping.json and retry: {key}: "<InstitutionName>"'
