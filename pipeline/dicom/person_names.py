"""Compare the spellings that two machines use for the name of one person (PS3.5 6.2.1).

Machines differ in case, in accents and their transcription (MÜLLER, MUELLER, MULLER), in titles, in second first
names, and in the component groups they send: letters, ideographs, phonetic. Both names are folded in the same way,
so that no spelling is preferred.
"""

import functools
import re
import unicodedata
from collections.abc import Iterable

# Behind Latin and Greek letters these marks are accents.
_MARKS = re.compile("([A-Za-z\u0370-\u03ff])[\u0300-\u036f]+")
_YO = "\u0435\u0308"  # The Russian letter that is mostly written without its two dots.
_LETTERS = str.maketrans(
    {  # Letters that no Unicode normalisation separates, as passports transcribe them (ICAO 9303-3, section 6).
        "ø": "o",
        "œ": "oe",
        "æ": "ae",
        "ł": "l",
        "đ": "d",
        "ð": "d",
        "þ": "th",
        "ħ": "h",
        "ŧ": "t",
        "ŋ": "n",
        "\u0131": "i",
        "ĸ": "k",
        "ə": "e",
    }
)
_TRANSCRIBED = re.compile("(?:a+e*)+|([ou])e+")  # Ä, Ö, Ü, Æ, Ø and Å, written by a machine without these letters.
_WITHIN_WORDS = re.compile("['`\u00b4\u2018\u2019\u02bc]")  # All forms of the apostrophe, as in O'NEIL.

Group = tuple[str, ...]  # The folded words of one component group.


def folded(text: str) -> str:
    """Return a text without case, accents and transcriptions, for comparisons only."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    plain = unicodedata.normalize("NFKD", plain).translate(_LETTERS).replace(_YO, _YO[0])
    return _TRANSCRIBED.sub(lambda found: found[1] or "a", _MARKS.sub(r"\1", plain))


@functools.lru_cache(maxsize=4096)
def groups_of(name: str) -> tuple[Group, ...]:
    """Return the folded words of each component group that has any."""
    return tuple(filter(None, map(_words, name.split("="))))


@functools.lru_cache(maxsize=4096)
def _words(text: str) -> Group:
    """Split a folded text into words; a combining mark that is no accent stays within its word."""
    plain = _WITHIN_WORDS.sub("", folded(text))
    parts = "".join(one if one.isalnum() or unicodedata.category(one)[0] == "M" else " " for one in plain)
    return tuple(parts.split())


def comparable_name(name: str) -> str:
    """Return the first component group, so that spellings of one name are equal texts; "" if the name is empty.

    This is for lists and indexes. Use `names_agree` to decide whether two names may be one person's.
    """
    return " ".join(next(iter(groups_of(name)), ()))


def names_agree(one: str, other: str, titles: Iterable[str] = ()) -> bool:
    """Tell whether any component group of one name agrees with any of the other, words in any order.

    Two groups agree if the words of one are among the words of the other, or if both have the same letters with
    other spaces (DE LA CRUZ, DELACRUZ). `titles` are words to ignore. A name without words agrees with no name:
    the caller decides what a missing name means.
    """
    left_out = frozenset(word for title in titles for word in _words(title))
    return any(_agree(a, b, left_out) for a in groups_of(one) for b in groups_of(other))


def _agree(one: Group, other: Group, titles: frozenset[str]) -> bool:
    a, b = (frozenset(words) - titles or frozenset(words) for words in (one, other))
    return a <= b or b <= a or "".join(one) == "".join(other)


def names_equal(one: str, other: str) -> bool:
    """Tell whether a component group of both names has exactly the same words."""
    return any(frozenset(a) == frozenset(b) for a in groups_of(one) for b in groups_of(other))


def share_first_name(one: str, other: str) -> bool:
    """Tell whether two names have the same first given name in some component group."""
    return bool(_first_names(one) & _first_names(other))


def _first_names(name: str) -> frozenset[str]:
    """Return the first word of the second component of each group; a comma may stand for `^`."""
    given = (re.split("[\\^,]", group) for group in name.split("="))
    return frozenset(words[0] for parts in given if len(parts) > 1 and (words := _words(parts[1])))
