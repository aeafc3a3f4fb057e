"""The rules that propose changes, one kind of rule a file, and the one place that applies and records them.

A module of this room offers `PRECEDENCE`, its place in the order, and `rules(settings)`; no other registration is
needed. A rule proposes with `proposed_value` and `proposed_removal` and changes nothing itself.
"""

import importlib
import pkgutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Protocol

from pydicom import Dataset
from pydicom.datadict import tag_for_keyword

from pipeline.config.site_table import SiteConfiguration
from pipeline.dicom.attributes.character_sets import text_of
from pipeline.dicom.attributes.elements import bytes_of, element_of, named
from pipeline.dicom.attributes.header_edit import HeaderEdit
from pipeline.model import Change, Origin


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


def rules_of(settings: SiteConfiguration) -> tuple[Rule, ...]:
    """Return the site's rules in the order of application: shipped, institution, the site's own.

    Raises:
        Configuration: a [[coercion]] table or the institution mapping is wrong; one line for each mistake.
    """
    return tuple(rule for module in modules() for rule in module.rules(settings))


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


def coerced(dataset: Dataset, origin: Origin, rules: Sequence[Rule]) -> Coerced:
    """Apply the rules in order, record the previous values, and return what changed.

    `dataset` is a header as read; it is changed in place. If no rule proposes a new value, it stays as it is, byte
    for byte; applied to its own result, coercion changes nothing. Write the touched elements raw, as
    `elements.element_of` returns them: a value that pydicom decodes first may come out different.

    Raises:
        Permanent: this instance cannot be coerced, or must not go on; quarantine it with the reason.
    """
    draft = HeaderEdit(dataset)
    for rule in rules:
        for change in tuple(rule.propose(dataset, origin)):
            draft.apply(change)
    return Coerced(draft.settle(origin), draft.touched)


def coerce(dataset: Dataset, origin: Origin, rules: Sequence[Rule]) -> tuple[Change, ...]:
    """Return only the changes, for a caller that writes the whole header; raises Permanent as `coerced`."""
    return coerced(dataset, origin, rules).changes


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
