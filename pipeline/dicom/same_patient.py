"""The one rule for whether two sources speak of one patient; docs/orders.md has it as a table.

Every way out asks it (disc, print, forward, send), and it compares the sources: the HIS, the answers of the PACS,
and the images. It is pure: it knows no ledger, no peer and no order.

Two machines spell the name of one person differently (PS3.5 6.2.1): in case, in accents and their transcription
(MÜLLER, MUELLER, MULLER), in titles, in second first names, and in the component groups they send: letters,
ideographs, phonetic. Both names are folded in the same way, so that no spelling is preferred.
"""

import functools
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from itertools import combinations

from pipeline.dicom.patient import Patient
from pipeline.dicom.placeholders import NAME_PLACEHOLDERS, PLACEHOLDERS

MOST_UNWRITTEN = 8  # Letters of one word that may be lost; trying all they may be takes time.
MOST_WORDS = 20  # Words of a name of which letters are lost.
MOST_WAYS = 500  # Most spellings of one patient within one order or disc; more are refused.
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


class Attribute(StrEnum):
    """The attributes in which two sources can differ; the values stand in JSON."""

    PATIENT_ID = "patient_id"
    ISSUER = "issuer_of_patient_id"
    NAME = "patient_name"
    BIRTH_DATE = "patient_birth_date"


@dataclass(frozen=True, slots=True)
class PatientComparison:
    """What two patients differ in: `differs` makes them two persons, `noted` does not.

    `is_by_name` says that a Patient ID was a placeholder, so that name and birth date had to decide.
    """

    differs: tuple[Attribute, ...] = ()
    noted: tuple[Attribute, ...] = ()
    is_by_name: bool = False


@dataclass(frozen=True, slots=True)
class Contradiction:
    """Two patients that cannot be one person, or one patient whose placeholder ID covers several studies."""

    one: Patient
    other: Patient
    differs: tuple[Attribute, ...]


@dataclass(frozen=True, slots=True)
class Judgement:
    """The verdict on the patients of several studies: one patient, unless there are contradictions."""

    contradictions: tuple[Contradiction, ...] = ()
    noted: tuple[Attribute, ...] = ()
    is_by_name: bool = False

    @property
    def is_one(self) -> bool:
        """Say whether no contradiction was found."""
        return not self.contradictions

    @property
    def differs(self) -> tuple[Attribute, ...]:
        """Return every attribute that contradicts, each once, in the order of `Attribute`."""
        return _ordered(attribute for contradiction in self.contradictions for attribute in contradiction.differs)


UNDISPUTED = Judgement()  # The verdict on a single patient.


def normalised_identifier(identifier: str) -> str:
    """Return a Patient ID without padding and case, in one Unicode form: equal IDs become equal texts."""
    return unicodedata.normalize("NFC", identifier).strip(" \0\t\r\n").casefold()


def unpadded_identifier(identifier: str) -> str:
    """Return a Patient ID without blanks around it, case and leading zeros, as one system may write it twice.

    Separators count: where one system writes 1-23 and 12-3, it means two patients.
    """
    return normalised_identifier(identifier).lstrip("0")


def bare_identifier(identifier: str) -> str:
    """Return a Patient ID without case, blanks, separators and leading zeros, as other systems may write it."""
    plain = re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", identifier).casefold())
    return plain.lstrip("0")


def is_placeholder(identifier: str, placeholders: tuple[str, ...] = PLACEHOLDERS) -> bool:
    """Tell whether a Patient ID proves nothing: it has no letter or digit, or equals a placeholder in any case.

    The placeholder `0` stands for any number of zeros, with separators between them too.
    """
    plain, known = normalised_identifier(identifier), _normalised(placeholders)
    return plain in known or (not bare_identifier(plain) and ("0" in known or "0" not in plain))


@functools.lru_cache(maxsize=16)
def _normalised(placeholders: tuple[str, ...]) -> frozenset[str]:
    return frozenset(map(normalised_identifier, placeholders))


def compare(
    one: Patient,
    other: Patient,
    placeholders: tuple[str, ...] = PLACEHOLDERS,
    *,
    is_same_study: bool,
    ignores_case: bool = False,
) -> PatientComparison:
    """Return what two patients differ in; the order of the two does not matter.

    `is_same_study`: both are said of one study. `ignores_case`: the two are different sources, and one may write
    Patient IDs in another case; within one source case counts (LO, PS3.5 6.2).
    """
    if is_placeholder(one.identifier, placeholders) or is_placeholder(other.identifier, placeholders):
        return _by_name(one, other, placeholders, is_same_study=is_same_study)
    a, b = one.identifier, other.identifier
    if ignores_case:
        a, b = normalised_identifier(a), normalised_identifier(b)
    differs = [Attribute.PATIENT_ID] if a != b else []
    if _differ(normalised_identifier(one.issuer), normalised_identifier(other.issuer)):
        differs.append(Attribute.ISSUER)
    noted: list[Attribute] = []
    if _names_differ(one, other):
        kept = not differs and _is_day(one.birth_date) and one.birth_date == other.birth_date
        is_new = kept and is_new_family_name(one.name, other.name)
        (noted if is_new else differs).append(Attribute.NAME)
    if dates_differ(one.birth_date, other.birth_date):
        differs.append(Attribute.BIRTH_DATE)
    return PatientComparison(tuple(differs), tuple(noted))


def _by_name(
    one: Patient, other: Patient, placeholders: tuple[str, ...], *, is_same_study: bool
) -> PatientComparison:
    """Compare by name and birth date if a Patient ID proves nothing; over several studies both must be equal."""
    differs = []
    if _names_differ(one, other) or not (is_same_study or names_equal(one.name, other.name, placeholders)):
        differs.append(Attribute.NAME)
    dates = one.birth_date, other.birth_date
    if dates_differ(*dates) or not (is_same_study or (_is_day(dates[0]) and dates[0] == dates[1])):
        differs.append(Attribute.BIRTH_DATE)
    if differs and not is_same_study:
        differs.insert(0, Attribute.PATIENT_ID)
    return PatientComparison(tuple(differs), is_by_name=True)


def judge(said: Iterable[tuple[str, Patient]], placeholders: tuple[str, ...] = PLACEHOLDERS) -> Judgement:
    """Return whether all these patients are one person; each comes with its Study Instance UID.

    A patient with a placeholder belongs to its study's patient if another instance of that study has a Patient ID,
    and must not contradict it. Otherwise it must be proven equal to the patient of every other study.
    """
    studies: dict[Patient, set[str]] = defaultdict(set)
    for study, patient in said:
        studies[patient].add(study)
    patients = list(studies)
    if len(patients) > MOST_WAYS:
        return Judgement((Contradiction(patients[0], patients[-1], tuple(Attribute)),))
    nameless = {patient for patient in patients if is_placeholder(patient.identifier, placeholders)}
    identified = {study for patient in patients if patient not in nameless for study in studies[patient]}
    unproven = {patient for patient in nameless if not studies[patient] <= identified}
    pairs = [*((patient, patient) for patient in patients if patient in unproven), *combinations(patients, 2)]
    contradictions, noted = [], set[Attribute]()
    for one, other in pairs:
        needs_proof = len(studies[one] | studies[other]) > 1 and bool(unproven & {one, other})
        found = compare(one, other, placeholders, is_same_study=not needs_proof)
        noted.update(found.noted)
        if found.differs:
            contradictions.append(Contradiction(one, other, found.differs))
    return Judgement(tuple(contradictions), _ordered(noted), bool(nameless))


def _ordered(attributes: Iterable[Attribute]) -> tuple[Attribute, ...]:
    found = set(attributes)
    return tuple(attribute for attribute in Attribute if attribute in found)


def _differ(one: str, other: str) -> bool:
    return bool(one and other) and one != other


_DATE = re.compile(r"(\d{4})(\d\d)?(\d\d)?")


def dates_differ(one: str, other: str) -> bool:
    """Tell whether two birth dates cannot be one day; an empty one contradicts nothing.

    A year, a month (also written with zeros for the rest) and a range stand for each of their days.
    """
    if not (one and other) or one == other:
        return False
    a, b = _days(one), _days(other)
    return a is None or b is None or max(a[0], b[0]) > min(a[1], b[1])


def _days(date: str) -> tuple[str, str] | None:
    """Return the first and the last day a date may be, None if it cannot be read."""
    first, _, last = date.partition("-")
    ends = [_DATE.fullmatch(end) for end in (first, last or first)]
    if None in ends:
        return None
    known = [tuple("" if part in {None, "00"} else part for part in end.groups()) for end in ends if end]
    begin, end = (
        "".join(part or least for part, least in zip(parts, limits, strict=True))
        for parts, limits in zip(known, (("", "01", "01"), ("", "12", "31")), strict=True)
    )
    return begin, end


def _is_day(date: str) -> bool:
    return bool(_DATE.fullmatch(date)) and _days(date) == (date, date)


def _names_differ(one: Patient, other: Patient) -> bool:
    is_told = groups_of(one.name) and groups_of(other.name)
    return bool(is_told) and not names_agree(one.name, other.name)


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
    other spaces (DE LA CRUZ, DELACRUZ). A hyphen divides words or is left out, as suits. A question mark stands
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
