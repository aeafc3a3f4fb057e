"""Accession Numbers as people and the HIS write them, parsed once into what may be asked of a PACS."""

from collections.abc import Sequence
from typing import Self

from pipeline.errors import Usage

LONGEST = 16  # PS3.5 table 6.2-1, SH


class InvalidAccession(Usage):
    """Say what is wrong with the accession numbers asked for."""


class AccessionNumber(str):
    """An SH of 1 to 16 characters that matches itself alone: no wildcard, no backslash, no control character."""

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


def parse_list(text: str, *, at_most: int) -> tuple[AccessionNumber, ...]:
    """Return the accession numbers of a list with commas, each once, in the order given.

    Raises InvalidAccession: an entry is empty or wrong, or there are more than `at_most`.
    """
    return distinct([AccessionNumber.parse(part) for part in text.split(",")], at_most=at_most)


def distinct(accessions: Sequence[AccessionNumber], *, at_most: int) -> tuple[AccessionNumber, ...]:
    """Return each once; raises InvalidAccession for none or more than `at_most`."""
    once = tuple(dict.fromkeys(accessions))
    if not once:
        raise InvalidAccession("an accession number is missing or empty")
    if len(once) > at_most:
        raise InvalidAccession(f"{len(once)} accession numbers are more than the {at_most} allowed at once")
    return once
