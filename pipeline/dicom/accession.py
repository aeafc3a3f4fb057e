"""Accession Numbers as people and the HIS write them, parsed once into what may be asked of a PACS."""

from collections.abc import Iterable, Sequence
from typing import Self

from pipeline.errors import Usage

LONGEST = 64  # as archives and information systems have them, whatever the standard says
LONGEST_OF_THE_STANDARD = 16  # PS3.5 table 6.2-1, SH


class InvalidAccession(Usage):
    """Say what is wrong with the accession numbers asked for."""


class AccessionNumber(str):
    """A number of 1 to 64 characters that matches itself alone: no wildcard, backslash or control character.

    It goes into an SH, which may have 16 (PS3.5 table 6.2-1); archives store and match longer ones all the same.
    """

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the accession number `text` is; raises InvalidAccession saying what it must be."""
        plain = text.strip(" ")
        if not plain:
            raise InvalidAccession("an accession number is missing or empty")  # it would ask for all studies
        if len(plain) > LONGEST:
            raise InvalidAccession(f"an accession number has at most {LONGEST} characters")
        if any(character in plain for character in "*?\\"):
            raise InvalidAccession("an accession number holds no * ? or backslash")
        if not (plain.isascii() and plain.isprintable()):  # how a PACS spells others, its query would have to say
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
    """Return each once; raises InvalidAccession for none, more than `at_most`, one longer than `longest`."""
    once = tuple(dict.fromkeys(accessions))
    if not once:
        raise InvalidAccession("an accession number is missing or empty")
    if len(once) > at_most:
        raise InvalidAccession(f"{len(once)} accession numbers are more than the {at_most} allowed at once")
    if any(len(one) > longest for one in once):
        raise InvalidAccession(
            f"an accession number has at most {longest} characters here ([pacs] accession_number_length)"
        )
    return once


def spellings(asked: str, answered: Iterable[str]) -> list[str]:
    """Return under which of the numbers `answered` the one that was asked for is known.

    Itself alone where it is among them, else all that differ in case or padding only: with one of these it is the
    same number otherwise spelled, with several nobody can tell which is meant.
    """
    there = sorted(set(answered))
    if asked in there:
        return [asked]
    return [one for one in there if _plain(one) == _plain(asked)]


def _plain(text: str) -> str:
    return text.strip(" \0").casefold()
