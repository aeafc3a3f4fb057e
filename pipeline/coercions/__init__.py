"""The rules that propose changes, one kind of rule a file, and the one place that applies and records them.

A module of this room offers `PRECEDENCE`, its place in the order, and `rules(settings)`; no other registration is
needed. A rule proposes with `proposed_value` and `proposed_removal` and changes nothing itself; `HeaderEdit` is
the one place that applies changes, and keeps the previous values.
"""

import functools
import importlib
import pickle
import pkgutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import TYPE_CHECKING, Protocol

from pydicom import Dataset
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.tag import BaseTag

from pipeline.dicom.attributes import original_attributes
from pipeline.dicom.attributes.character_sets import CharacterSet
from pipeline.dicom.attributes.declared_text import declared_by, text_in, text_of
from pipeline.dicom.attributes.elements import (
    SPECIFIC_CHARACTER_SET,
    Element,
    bytes_of,
    drop,
    element_of,
    named,
    put,
    raw_element,
    significant,
    vr_of,
)
from pipeline.dicom.attributes.widening import WIDE, UndecodableText, declare, widen
from pipeline.errors import Permanent, StorestowError
from pipeline.model import Change, Origin

if TYPE_CHECKING:  # A process that only prepares instances does without pydantic, a fifth of a second and 8 MB.
    from pipeline.config.site_table import SiteConfiguration

PIXEL_DATA_AND_LATER = 0x7FE00000
WIDENED = "character-set"  # The ledger names this rule beside a widened Specific Character Set.


class Rule(Protocol):
    """Propose changes to a header. A rule is a frozen value that can be pickled: it is sent to other processes."""

    @property
    def name(self) -> str:
        """Return the rule's name in the ledger."""

    def propose(self, dataset: Dataset, origin: Origin) -> Iterator[Change]:
        """Yield the changes this rule asks for; read with `character_sets.text_of`, which decodes nothing.

        Raises:
            Permanent: this instance must not go on; it is quarantined with the reason.
        """


def rules_of(settings: "SiteConfiguration") -> tuple[Rule, ...]:
    """Return the site's rules in the order of application: shipped, institution, the site's own.

    Raises:
        Configuration: a [[coercion]] table or the institution mapping is wrong; one line for each mistake.
    """
    return SentRules(rule for module in modules() for rule in module.rules(settings))


class SentRules(tuple[Rule, ...]):  # noqa: SLOT001  # it keeps what it was pickled to
    """Rules that go to other processes with every instance: pickled once, and unpickled once in each process.

    A mapping of institutions may have thousands of lines.
    """

    @functools.cached_property
    def _pickled(self) -> bytes:
        return pickle.dumps(tuple(self))

    def __reduce__(self) -> tuple[object, ...]:
        return _unpickled, (self._pickled,)


@functools.lru_cache(maxsize=8)
def _unpickled(pickled: bytes) -> SentRules:
    return SentRules(pickle.loads(pickled))  # noqa: S301  # it comes through the pipe of our own worker


def modules() -> list[ModuleType]:
    """Return the modules of this room by their precedence."""
    found = [importlib.import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    return sorted(found, key=lambda module: (module.PRECEDENCE, module.__name__))


@dataclass(frozen=True, slots=True)
class Coerced:
    """The result of coercion: the changes by tag, and the tags of all elements that were written anew.

    `touched` holds more tags than the changes if all text had to be rewritten in UTF-8.
    """

    changes: tuple[Change, ...]
    touched: frozenset[int]


def coerce(dataset: Dataset, origin: Origin, rules: Sequence[Rule]) -> Coerced:
    """Apply the rules in order, record the previous values, and return what changed.

    `dataset` is a header as read; it is changed in place. If no rule proposes a new value, it stays as it is, byte
    for byte; applied to its own result, coercion changes nothing, unless it removed the text because of which a
    character set could not be declared. Write the touched elements raw, as `elements.element_of` returns them: a
    value that pydicom decodes first may come out different.

    Raises:
        Permanent: this instance cannot be coerced, or must not go on; quarantine it with the reason.
    """
    edit = HeaderEdit(dataset)
    for rule in rules:
        for change in tuple(rule.propose(dataset, origin)):
            edit.apply(change)
    return Coerced(edit.settle(origin), edit.touched)


class HeaderEdit:
    """Apply changes to a data set and remember each attribute as it was received.

    Text becomes bytes at the end, when all of it is known, in the data set's own character set. If that set lacks
    a character, the whole data set is widened to ISO_IR 192.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._charset = declared_by(dataset)
        self._before: dict[int, tuple[str, Element | None, str | None]] = {}
        self._proposed: dict[int, Change] = {}
        self._rewritten: frozenset[int] = frozenset()

    @property
    def touched(self) -> frozenset[int]:
        """Return the tags of all elements that differ from what was received."""
        if not self._proposed:
            return frozenset()
        return self._rewritten | frozenset(self._proposed) | {original_attributes.ORIGINAL_ATTRIBUTES}

    def apply(self, change: Change) -> None:
        """Apply one proposal, so that later rules see it; raises StorestowError if no rule may make it."""
        tag = change.tag
        if not 0x00080000 <= tag < PIXEL_DATA_AND_LATER or tag == original_attributes.ORIGINAL_ATTRIBUTES:
            raise StorestowError(f"the rule {change.rule} may not change {named(tag)}")
        self._remember(tag)
        self._proposed[tag] = change
        if change.value is None:
            drop(self.dataset, tag)
        else:
            put(self.dataset, DataElement(tag, dictionary_VR(tag), change.value, already_converted=True))

    def settle(self, origin: Origin) -> tuple[Change, ...]:
        """Write the texts, record the previous values and return the final changes in order of tag.

        Raises:
            Permanent: a text needs widening, and the data set's text cannot be read. The original stays as it is.
        """
        charset = declared_by(self.dataset)
        for tag in [tag for tag in self._proposed if self._is_unchanged(tag, charset)]:
            self._restore(tag)
        if not self._proposed:
            return ()
        self._write_texts(charset)
        previous = {tag: self._before[tag][:2] for tag in sorted(self._proposed)}
        original_attributes.record(self.dataset, origin, previous, charset)
        return tuple(replace(self._proposed[tag], before=self._before[tag][2]) for tag in sorted(self._proposed))

    def _remember(self, tag: int) -> None:
        if tag in self._before:
            return
        element = element_of(self.dataset, tag)
        if element is None:
            self._before[tag] = ("UN" if BaseTag(tag).is_private else dictionary_VR(tag), None, None)
        else:
            text = text_in(element, self.dataset, self._charset)
            self._before[tag] = (vr_of(element, self.dataset), element, text)

    def _is_unchanged(self, tag: int, charset: CharacterSet) -> bool:
        """Tell whether the received element has the proposed value, read with the declared character set."""
        (vr, element, _), value = self._before[tag], self._proposed[tag].value
        before = None if element is None else text_in(element, self.dataset, charset)
        return before == (None if value is None else significant(value, vr))

    def _restore(self, tag: int) -> None:
        _, element, _ = self._before[tag]
        del self._proposed[tag]
        if element is not None:
            put(self.dataset, element)

    def _write_texts(self, charset: CharacterSet) -> None:
        try:
            texts = list(self._texts(charset))
        except UnicodeEncodeError:
            self._widen(charset)
            texts = list(self._texts(WIDE))
        for element in texts:
            put(self.dataset, element)
        if SPECIFIC_CHARACTER_SET in self._proposed:
            declare(self.dataset, declared_by(self.dataset))

    def _texts(self, charset: CharacterSet) -> Iterator[Element]:
        for tag, change in self._proposed.items():
            if change.value is not None:
                vr = dictionary_VR(tag)
                yield raw_element(self.dataset, tag, vr, charset.encode(change.value, vr))

    def _widen(self, charset: CharacterSet) -> None:
        self._remember(SPECIFIC_CHARACTER_SET)
        try:
            self._rewritten = widen(self.dataset, charset)
        except UndecodableText as error:
            raise Permanent(
                f"{', '.join(self._not_in(charset))} cannot be written in the character set of the data set, "
                f"{charset}, nor can the data set be rewritten in UTF-8, because {error} is not of that "
                "character set; tell which one it is with a [[coercion]] table for this sender: "
                'set = { SpecificCharacterSet = "ISO_IR 100" } or the like'
            ) from error
        self._proposed[SPECIFIC_CHARACTER_SET] = Change(
            SPECIFIC_CHARACTER_SET, "SpecificCharacterSet", str(WIDE), None, str(WIDE), WIDENED
        )

    def _not_in(self, charset: CharacterSet) -> Iterator[str]:
        for tag, change in sorted(self._proposed.items()):
            try:
                charset.encode(change.value or "", dictionary_VR(tag) if change.value else "LO")
            except UnicodeEncodeError:
                yield change.keyword


def proposed_value(keyword: str, text: str, rule: str) -> Change:
    """Propose that the attribute gets `text`; backslashes separate several values."""
    return Change(tag_of(keyword), keyword, text, None, text, rule)


def proposed_removal(tag: int, dataset: Dataset, rule: str) -> Change:
    """Propose to remove the element."""
    return Change(tag, named(tag, dataset), None, None, None, rule)


def is_empty(dataset: Dataset, tag: int) -> bool:
    r"""Tell whether the attribute is absent, of zero length, or without meaning.

    Blanks, control characters and the delimiters `^`, `=` and `\` have no meaning (PS3.5 6.2.1). Two quotes have
    none either: HL7 uses them to ask for deletion, and some modalities copy them from the order.
    """
    element = element_of(dataset, tag)
    if element is None or not (bytes_of(element) or (not element.is_raw and element.value)):
        return True
    text = (text_of(dataset, tag) or "").replace('""', "")
    return all(
        character in "^=\\" or character.isspace() or unicodedata.category(character) in {"Cc", "Cf"}
        for character in text
    )


def tag_of(keyword: str) -> int:
    """Return the tag of a keyword in the data dictionary; raises KeyError if there is none."""
    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return tag
