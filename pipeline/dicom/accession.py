"""Accession Numbers as people and the HIS type them, parsed once into a value that is safe in a C-FIND query."""

from collections.abc import Iterable, Sequence
from typing import Self

from pipeline.errors import Usage

LONGEST = 64  # Archives and information systems store up to 64 characters, although the standard allows 16.
LONGEST_OF_THE_STANDARD = 16  # The VR is SH, PS3.5 table 6.2-1.


class InvalidAccession(Usage):
    """Say what is wrong with the accession numbers that somebody asked for."""


class AccessionNumber(str):
    """An Accession Number of 1 to 64 characters without wildcard, backslash or control character.

    The attribute's VR is SH, at most 16 characters (PS3.5 table 6.2-1); archives store and match longer ones too.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the accession number in `text`; raises InvalidAccession, which says what a number must be."""
        plain = text.strip(" ")
        if not plain:
            # An empty key in a C-FIND would match all studies.
            raise InvalidAccession("an accession number is missing or empty")
        if len(plain) > LONGEST:
            raise InvalidAccession(f"an accession number has at most {LONGEST} characters")
        if any(character in plain for character in "*?\\"):
            raise InvalidAccession("an accession number holds no * ? or backslash")
        # A query would need the character set of the PACS to ask for other characters.
        if not (plain.isascii() and plain.isprintable()):
            raise InvalidAccession("an accession number is of printable ASCII, without control characters")
        return cls(plain)


def parse_list(text: str, *, at_most: int, longest: int = LONGEST) -> tuple[AccessionNumber, ...]:
    """Return the accession numbers of a list with commas, each once, in the order given.

    Raises InvalidAccession: an entry is empty, wrong or longer than `longest`, or there are more than `at_most`.
    """
    return distinct([AccessionNumber.parse(part) for part in text.split(",")], at_most=at_most, longest=longest)


def distinct(
    accessions: Sequence[AccessionNumber], *, at_most: int, longest: int = LONGEST
) -> tuple[AccessionNumber, ...]:
    """Return each number once; raises InvalidAccession for none, more than `at_most`, or one that is too long."""
    once = tuple(dict.fromkeys(accessions))
    if not once:
        raise InvalidAccession("an accession number is missing or empty")
    if len(once) > at_most:
        raise InvalidAccession(f"{len(once)} accession numbers are more than the {at_most} allowed at once")
    if any(len(accession) > longest for accession in once):
        raise InvalidAccession(
            f"an accession number has at most {longest} characters here ([pacs] accession_number_length)"
        )
    return once


def spellings(asked: str, answered: Iterable[str]) -> list[str]:
    """Return the numbers in `answered` that are the number `asked`, as the PACS spells it.

    If `asked` itself is among the answers, return it alone. Otherwise return all that differ only in case or
    padding: one such number is the same number spelled differently; of several, nobody can tell which is meant.
    """
    there = sorted(set(answered))
    if asked in there:
        return [asked]
    return [found for found in there if _plain(found) == _plain(asked)]


def _plain(text: str) -> str:
    """Return an ASCII text without padding and case; an accession number has no other letters."""
    plain = text.strip(" \0")
    return plain.lower() if plain.isascii() else plain
