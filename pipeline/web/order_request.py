"""Parse the parameters of a link once; both spellings of the accession numbers become one."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TypedDict

from pipeline.dicom.accession import LONGEST, AccessionNumber, InvalidAccession, distinct
from pipeline.model import OrderError
from pipeline.site.settings import KIND_OF_LINK, Settings
from pipeline.web.http_errors import INVALID_ACCESSION, INVALID_DESTINATION, INVALID_PARAMETER, HttpError, kind_of

SPELLINGS = ("accession_number", "accession_numbers")
CONTAINERS = ("", "iso", "zip")
MODALITY = re.compile(r"[A-Z0-9_ ]{1,16}")  # PS3.5 6.2, CS
MOST_MODALITIES = 20
DOWNLOAD = "download"  # The key of [shim] for every link that makes a file.
_YES = frozenset({"1", "yes", "true", "allow"})


class Verb(StrEnum):
    """What to do with the study; an order keeps it."""

    DOWNLOAD = "download"
    DOWNLOAD_MULTIPLE = "download-multiple"
    PRINT = "print"
    FORWARD = "forward"

    @property
    def makes_a_file(self) -> bool:
        """Say whether the result is a file for the client."""
        return self in {Verb.DOWNLOAD, Verb.DOWNLOAD_MULTIPLE}

    @property
    def asks_patients(self) -> bool:
        """Say whether the answer names the patient."""
        return self in {Verb.DOWNLOAD_MULTIPLE, Verb.PRINT}


@dataclass(frozen=True, slots=True)
class OrderRequest:
    """What is asked for, as `orders.place` takes it."""

    verb: Verb
    accessions: tuple[AccessionNumber, ...]
    destination: str
    modalities: tuple[str, ...] = ()
    container: str = ""
    missing_allowed: bool = False
    incomplete_allowed: bool = False
    again: bool = False
    allow_identity: str | None = None


Parameters = Sequence[tuple[str, str]]


def wish_of(verb: Verb, parameters: Parameters, settings: Settings) -> OrderRequest:
    """Return what the parameters ask for; raises HttpError, which says what is wrong."""
    return OrderRequest(
        verb=verb,
        accessions=accessions_of(parameters, settings, at_most=settings.shim.max_accessions),
        destination=_destination(verb, parameters, settings),
        modalities=_modalities(parameters),
        container=_container(parameters) if verb.makes_a_file else "",
        **allowances(parameters),
    )


class Allowances(TypedDict):
    """What a client may allow; each is independent."""

    missing_allowed: bool
    incomplete_allowed: bool
    again: bool


def allowances(parameters: Parameters) -> Allowances:
    """Return what is allowed; an absent or unknown value allows nothing."""
    return {
        "missing_allowed": _says_yes(parameters, "missing"),
        "incomplete_allowed": _says_yes(parameters, "incomplete"),
        "again": _says_yes(parameters, "again"),
    }


def accessions_of(parameters: Parameters, settings: Settings, *, at_most: int) -> tuple[AccessionNumber, ...]:
    """Return the accession numbers of either spelling; a link that uses both is ambiguous and refused."""
    given = [value for name, value in parameters if name in SPELLINGS]
    if len(given) > 1:
        raise HttpError(INVALID_ACCESSION, "accession_number is given more than once; write a list with commas")
    parts = (given[0] if given else "").split(",")
    longest = settings.pacs.accession_number_length if settings.pacs else LONGEST
    try:
        parsed = [_parsed(part, place, len(parts)) for place, part in enumerate(parts, 1)]
        return distinct(parsed, at_most=at_most, longest=longest)
    except InvalidAccession as error:
        raise HttpError(INVALID_ACCESSION, str(error)) from error


def _parsed(part: str, place: int, of: int) -> AccessionNumber:
    try:
        return AccessionNumber.parse(part)
    except InvalidAccession as error:
        which = f"number {place} of {of}: " if of > 1 else ""
        raise InvalidAccession(f"{which}{error}") from error


def destination_of(verb: Verb, settings: Settings, to: str = "") -> str:
    """Return the destination this kind of link means.

    Raises HttpError if the site names none, or one that cannot do it, or if `to` is none of them.
    """
    key = DOWNLOAD if verb.makes_a_file else str(verb)
    named = settings.link_destinations[key]
    if not named:
        raise HttpError(kind_of(OrderError.NOT_CONFIGURED), f"[shim] {names_none(key, settings)}")
    if settings.pacs is None:
        raise HttpError(kind_of(OrderError.NOT_CONFIGURED), "there is no [pacs] to retrieve from")
    if to and to not in named:
        raise HttpError(INVALID_DESTINATION, f"to must be one of {', '.join(named)}")
    name = to or named[0]
    if words := cannot_serve(key, name, settings):
        raise HttpError(kind_of(OrderError.NOT_CONFIGURED), f"[shim] {words}")
    return name


def names_none(key: str, settings: Settings) -> str:
    """Return why the links of `key` mean no destination, where [shim] does not set `key`."""
    kind = KIND_OF_LINK.get(key)
    if kind is None:
        return f"{key} names no destination"
    choice = settings.destinations_of_kind(kind)
    if len(choice) == 1:
        return (
            f'{key} names no destination, and {choice[0]}, the only one of kind "{kind}", is named by forward, a '
            f'receiver or a route; if it is meant, write {key} = "{choice[0]}"'
        )
    there = f"more than one: {', '.join(choice)}" if choice else "none"
    return f'{key} names no destination, and of kind "{kind}" there is {there}'


def cannot_serve(key: str, name: str, settings: Settings) -> str:
    """Return why destination `name` cannot do what [shim] `key` promises, "" if it can."""
    destination = settings.destination_named(name)
    if destination.makes_file == (key == DOWNLOAD):
        return ""
    if key == DOWNLOAD:
        return f'{key} names {name}, whose kind "{destination.kind}" makes no file to download'
    return f'{key} names {name}, whose kind "{destination.kind}" makes a file to download and sends nothing'


def _destination(verb: Verb, parameters: Parameters, settings: Settings) -> str:
    return destination_of(verb, settings, _one(parameters, "to") if verb is Verb.FORWARD else "")


def _modalities(parameters: Parameters) -> tuple[str, ...]:
    text = _one(parameters, "modality")
    words = tuple(dict.fromkeys(word.strip() for word in text.split(","))) if text.strip() else ()
    if len(words) > MOST_MODALITIES or not all(MODALITY.fullmatch(word) for word in words):
        raise HttpError(
            INVALID_PARAMETER, "modality is a list such as MR,CT: A-Z 0-9 _, at most 16 characters each"
        )
    return words


def _container(parameters: Parameters) -> str:
    container = _one(parameters, "container")
    if container not in CONTAINERS:
        raise HttpError(INVALID_PARAMETER, "container is iso or zip")
    return container


def _says_yes(parameters: Parameters, name: str) -> bool:
    return _one(parameters, name).lower() in _YES


def _one(parameters: Parameters, name: str) -> str:
    """Return the value of a parameter, "" if it is absent; a repeated one is refused."""
    given = [value.strip() for key, value in parameters if key == name]
    if len(given) > 1:
        raise HttpError(INVALID_PARAMETER, f"{name} is given more than once")
    return given[0] if given else ""
