"""Every word a patient, nurse or operator reads: one file a language, all with the same keys.

The file's name is the language's code. A new language needs only a new file here.
"""

import functools
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
DEFAULT = "en"


@dataclass(frozen=True, slots=True)
class Translation:
    """The texts of one language; `say("now.ready")` returns the text under that key."""

    code: str
    table: dict[str, Any]

    def say(self, key: str, **values: object) -> str:
        """Return the text, with {braces} filled in; an unknown key is a bug and raises KeyError."""
        found: Any = self.table
        for step in key.split("."):
            found = found[step]
        return str(found).format(**values)

    def count(self, key: str, count: int, **values: object) -> str:
        """Return the text for a count."""
        return self.say(f"{key}_{'one' if count == 1 else 'many'}", count=count, **values)

    def size(self, size: int) -> str:
        """Return a number of bytes as people write it."""
        for factor, unit in ((10**9, "GB"), (10**6, "MB")):
            if size >= factor:
                return f"{size / factor:.1f} {unit}".replace(".", self.say("decimal_point"))
        return f"{max(1, size // 1000)} kB"


@functools.cache
def languages() -> dict[str, Translation]:
    """Return every language, by its code."""
    files = sorted(HERE.glob("*.toml"))
    return {file.stem: Translation(file.stem, tomllib.loads(file.read_text(encoding="utf-8"))) for file in files}


def chosen(accept_language: str, otherwise: str = DEFAULT) -> Translation:
    """Return the language the browser likes best (RFC 9110, 12.5.4), else the language `otherwise`."""
    known = languages()
    liked = [_weighed(part) for part in accept_language[:500].split(",")]
    for weight, code in sorted(liked, key=lambda one: -one[0]):
        if weight > 0 and code in known:
            return known[code]
    return known[otherwise]


def _weighed(part: str) -> tuple[float, str]:
    """Return the weight of one language range, and its code without region."""
    tag, _, parameter = part.strip().partition(";")
    name, _, value = parameter.strip().partition("=")
    try:
        weight = float(value) if name.strip() == "q" else 1.0
    except ValueError:
        weight = 0.0
    return weight, tag.strip().lower().partition("-")[0]
