"""Tell whether two Patient's Names (PS3.5 6.2.1) may be spellings of one person's name.

Two machines spell the name of one person differently: in case, in accents and their transcription (MÜLLER,
MUELLER, MULLER), in titles, in second first names, and in the component groups they send: letters, ideographs,
phonetic. Both names are folded in the same way, so that no spelling is preferred. A name alone never decides whose
an image is: `same_patient` does.
"""

import functools
import re
import unicodedata
from collections.abc import Collection, Iterable
from contextlib import suppress

from pipeline.dicom.placeholders import NAME_PLACEHOLDERS, PLACEHOLDERS

MOST_UNWRITTEN = 8  # Letters of one word that may be lost; each more takes more time to compare.
MOST_WORDS = 20  # Words of a name that has lost letters; longer names are not compared letter by letter.
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
_HYPHENS = re.compile("[-\u00ad\u2010\u2011\u2012\u2013\u2212]")
# Machines write one of these for a letter their character set does not have.
_UNWRITTEN = re.compile("[?\ufffd\u00bf]")

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
    parts = "".join(
        letter if letter.isalnum() or unicodedata.category(letter)[0] == "M" or _UNWRITTEN.match(letter) else " "
        for letter in plain
    )
    return tuple(word for word in parts.split() if _UNWRITTEN.sub("", word))


def comparable_name(name: str) -> str:
    """Return the first component group, so that spellings of one name are equal texts; "" if the name is empty.

    This is for lists and indexes. Use `names_agree` to decide whether two names may be one person's.
    """
    return " ".join(next(iter(groups_of(name)), ()))


def names_agree(one: str, other: str, titles: Iterable[str] = ()) -> bool:
    """Tell whether any component group of one name agrees with any of the other, words in any order.

    Two groups agree if the words of one are among the words of the other, or if both have the same letters with
    other spaces (DE LA CRUZ, DELACRUZ). A hyphen may divide words or be left out. A question mark stands
    for one or two letters that a machine could not write, if most of the word is known. `titles` are words to
    ignore. A name without words agrees with no name: the caller decides what a missing name means.
    """
    left_out = frozenset(word for title in titles for word in _words(title))
    return any(_agree(a, b, left_out) for a in _spellings(one) for b in _spellings(other))


@functools.lru_cache(maxsize=4096)
def _spellings(name: str) -> tuple[Group, ...]:
    """Return the groups of a name: with hyphens as blanks, without hyphens, and with UTF-8 bytes read as such."""
    written = [name]
    for wrong in ("latin-1", "cp1252"):  # Some machines declare one of these for a text that is UTF-8.
        with suppress(UnicodeError):
            written.append(name.encode(wrong).decode())
    return tuple(
        dict.fromkeys(
            group
            for text in written
            for spelling in (text, _HYPHENS.sub("", text))
            for group in groups_of(spelling)
        )
    )


def _agree(one: Group, other: Group, titles: frozenset[str]) -> bool:
    a, b = (frozenset(words) - titles or frozenset(words) for words in (one, other))
    if a <= b or b <= a or "".join(one) == "".join(other):
        return True
    if len(a) * len(b) > MOST_WORDS**2:
        return False
    return any(map(_UNWRITTEN.search, a | b)) and (_is_within(a, b) or _is_within(b, a))


def _is_within(few: Iterable[str], many: Collection[str]) -> bool:
    return all(any(_may_be(word, other) or _may_be(other, word) for other in many) for word in few)


def _may_be(written: str, word: str) -> bool:
    """Tell whether `word` may be `written` before some letters of that were lost."""
    if written == word:
        return True
    lost = _UNWRITTEN.findall(written)
    known = len(written) - len(lost)
    if not lost or known < max(2, len(lost)) or len(lost) > MOST_UNWRITTEN:
        return False
    # A letter of two bytes may be lost as two, and one letter is folded to two (ß, Œ).
    pattern = re.sub(r"\?+", lambda run: f"\\w{{1,{2 * len(run[0])}}}", _UNWRITTEN.sub("?", written))
    return re.fullmatch(pattern, word) is not None


def names_equal(one: str, other: str, placeholders: tuple[str, ...] = PLACEHOLDERS) -> bool:
    """Tell whether a component group of both names has exactly the same words, and these may be one person's only.

    They may be anybody's if letters of a name were lost (two M?LLER), or if it is made of placeholders (UNKNOWN).
    """
    if _UNWRITTEN.search(one + other):
        return False
    return any(
        frozenset(a) == frozenset(b) and not _is_anybody(a, placeholders)
        for a in groups_of(one)
        for b in groups_of(other)
    )


def names_are_enough(one: str, other: str, titles: Iterable[str] = ()) -> bool:
    """Tell whether two names have so much in common that they are one person's although the Patient IDs differ.

    Two groups have the same words, or the same letters with other spaces; or the words of one, at least two of
    them and no initials, are among those of the other. A name of which letters were lost is never enough.
    """
    if _UNWRITTEN.search(one + other):
        return False
    left_out = frozenset(word for title in titles for word in _words(title))
    return any(_are_enough(a, b, left_out) for a in _spellings(one) for b in _spellings(other))


def _are_enough(one: Group, other: Group, titles: frozenset[str]) -> bool:
    a, b = (frozenset(words) - titles or frozenset(words) for words in (one, other))
    if a == b or "".join(one) == "".join(other):
        return not _is_anybody(a, PLACEHOLDERS)
    common = {word for word in a & b if len(word) > 1 or not word.isascii()}
    return (a <= b or b <= a) and len(common) > 1 and not _is_anybody(common, PLACEHOLDERS)


def _is_anybody(words: Iterable[str], placeholders: tuple[str, ...]) -> bool:
    """Tell whether all words are placeholders or initials, or made of X and 0."""
    known = _placeholder_words(placeholders)
    return all(word in known or not word.strip("x0") or (len(word) == 1 and word.isascii()) for word in words)


@functools.lru_cache(maxsize=16)
def _placeholder_words(placeholders: tuple[str, ...]) -> frozenset[str]:
    return frozenset(word for text in (*NAME_PLACEHOLDERS, *placeholders) for word in _words(text))


def is_new_family_name(one: str, other: str) -> bool:
    """Tell whether, in some component group, the first given name is the same and the family name another.

    With the same family name, two given names that begin alike are two persons': ROE^BABY A, ROE^BABY B.
    """
    return any(
        first == other_first and not _agree(family, other_family, frozenset())
        for family, first in _families(one)
        for other_family, other_first in _families(other)
    )


def _families(name: str) -> list[tuple[Group, str]]:
    """Return family name and first given name of each group that has both; a comma may stand for `^`."""
    parts = (re.split("[\\^,]", group) for group in name.split("="))
    named = ((_words(part[0]), _words(part[1])) for part in parts if len(part) > 1)
    return [(family, given[0]) for family, given in named if family and given]
