"""The site's own rules, one for each [[coercion]] table, and the mistakes in these tables (docs/coercion.md)."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydicom import Dataset
from pydicom.datadict import dictionary_VM, dictionary_VR, keyword_dict
from pydicom.tag import BaseTag

from pipeline.coercions import is_empty, proposed_removal, proposed_value, tag_of
from pipeline.config.site_table import CoercionTable, SiteConfiguration
from pipeline.dicom.attributes.character_sets import CharacterSet
from pipeline.dicom.attributes.declared_text import declared_by, text_of
from pipeline.dicom.attributes.elements import SPECIFIC_CHARACTER_SET, named, private_tags
from pipeline.dicom.attributes.original_attributes import ORIGINAL_ATTRIBUTES
from pipeline.dicom.attributes.texts import mistake
from pipeline.dicom.attributes.widening import UndecodableText, check_readable
from pipeline.errors import Configuration
from pipeline.model import Change, Origin

PRECEDENCE = 90

MODALITY = 0x00080060
PIXEL_DATA_AND_LATER = 0x7FE00000
IDENTITIES = frozenset({0x00080016, 0x00080018, 0x0020000D, 0x0020000E})  # SOP Class, Instance, Study, Series UID
WHO = frozenset({0x00080050, 0x00100010, 0x00100020, 0x00100030})  # Accession Number, Patient's Name, ID, birth
ABOUT_THE_VIEW = frozenset(
    {0x00280300, 0x00280301, 0x00280302, 0x00281050, 0x00281051, 0x00281055, 0x00281056}
)  # In group 0028: quality control, burned in annotation, recognizable features, windows.

_PRIVATE = re.compile(r"([0-9A-Fa-f]{4}),(.+),([0-9A-Fa-f]{2})")
_TAG = re.compile(r"[0-9A-Fa-f]{8}")


@dataclass(frozen=True, slots=True)
class SiteRule:
    """Set and remove what one table says, if all its conditions hold."""

    name: str
    table: CoercionTable

    def propose(self, dataset: Dataset, origin: Origin) -> Iterator[Change]:
        """Propose the table's changes; `when = "empty"` is tested for each attribute separately."""
        if not self._applies(dataset, origin):
            return
        for keyword, text in self.table.set.items():
            tag = tag_of(keyword)
            if self._is_wanted(tag, dataset) and (tag != SPECIFIC_CHARACTER_SET or _is_true(text, dataset)):
                yield proposed_value(keyword, text, self.name)
        for target in self.table.remove:
            for tag in tags_of_target(target, dataset):
                if tag in dataset and self._is_wanted(tag, dataset):
                    yield proposed_removal(tag, dataset, self.name)

    def _applies(self, dataset: Dataset, origin: Origin) -> bool:
        facts = (
            (self.table.calling_ae_title, origin.calling_ae_title.strip()),
            (self.table.peer, origin.peer),
            (self.table.receiver, origin.receiver),
            (self.table.modality, text_of(dataset, MODALITY)),
        )
        return all(pattern is None or (fact is not None and fnmatchcase(fact, pattern)) for pattern, fact in facts)

    def _is_wanted(self, tag: int, dataset: Dataset) -> bool:
        return self.table.when == "always" or is_empty(dataset, tag)


def rules(settings: SiteConfiguration) -> Sequence[SiteRule]:
    """Return one rule for each table, in the order of the file.

    Raises Configuration, one line for each mistake.
    """
    if mistakes := mistakes_in(settings.coercion):
        raise Configuration("\n".join(mistakes))
    return [SiteRule(f"coercion {number}", table) for number, table in enumerate(settings.coercion, 1)]


def _is_true(text: str, dataset: Dataset) -> bool:
    """Tell whether the data set's text is in the character set the site declares, so that nothing is misread.

    Declared and valid UTF-8 stays: only UTF-8 looks like UTF-8.
    """
    declared = declared_by(dataset)
    if declared.is_utf_8 and _is_readable(dataset, declared):
        return False
    return _is_readable(dataset, CharacterSet.of(text))


def _is_readable(dataset: Dataset, charset: CharacterSet) -> bool:
    try:
        check_readable(dataset, charset)
    except UndecodableText:
        return False
    return True


def mistakes_in(tables: Sequence[CoercionTable]) -> list[str]:
    """Return one sentence for each mistake, with the table and the key."""
    found = [
        f"coercion number {number}{wrong}"
        for number, table in enumerate(tables, 1)
        for wrong in (*_in_set(table), *_in_remove(table), *_in_whole(table))
    ]
    return found + list(_in_order(tables))


def tags_of_target(target: str, dataset: Dataset) -> list[int]:
    """Return the elements of a data set that an entry of `remove` means."""
    if private := _PRIVATE.fullmatch(target):
        return private_tags(dataset, int(private[1], 16), private[2].strip(), int(private[3], 16))
    return [_tag_of(target)]


def _in_set(table: CoercionTable) -> Iterator[str]:
    for keyword, text in table.set.items():
        tag = keyword_dict.get(keyword)
        if tag is None:
            yield f".set.{keyword}: unknown keyword{_nearest(keyword)}"
        elif wrong := _why_never(tag) or _why_not_set(tag, text, table):
            yield f".set.{keyword}: {wrong}"


def _in_remove(table: CoercionTable) -> Iterator[str]:
    for target in table.remove:
        if wrong := _why_not_removed(target):
            yield f".remove: {target}: {wrong}"


def _in_whole(table: CoercionTable) -> Iterator[str]:
    if not table.set and not table.remove:
        yield ": it neither sets nor removes anything"
    for keyword in sorted(set(table.set) & {named(tag) for tag in _fixed_tags(table.remove)}):
        yield f": {keyword} is both set and removed"


def _in_order(tables: Sequence[CoercionTable]) -> Iterator[str]:
    """Yield which tables test a modality that a later table changes: a second pass would decide otherwise."""
    changing = [n for n, t in enumerate(tables, 1) if "Modality" in t.set or MODALITY in _fixed_tags(t.remove)]
    for number, table in enumerate(tables, 1):
        if table.modality is not None and (later := [n for n in changing if n > number]):
            yield (
                f"coercion number {number}.modality: coercion number {later[-1]} changes Modality afterwards; "
                "put that one first"
            )


def _why_not_set(tag: int, text: str, table: CoercionTable) -> str | None:
    if tag in WHO and table.when != "empty":
        return 'it tells patients apart, so it is set only with when = "empty"'
    if tag == SPECIFIC_CHARACTER_SET and not (text and CharacterSet.of(text).is_defined):
        return f'"{text}" is no defined term of PS3.3 C.12.1.1.2, such as "ISO_IR 100"'
    return mistake(dictionary_VR(tag), text, dictionary_VM(tag))


def _why_not_removed(target: str) -> str | None:
    if private := _PRIVATE.fullmatch(target):
        group = int(private[1], 16)
        return _why_never(group << 16 | 0x1000) or (None if group % 2 else "a private group is odd")
    if target not in keyword_dict and not _TAG.fullmatch(target):
        return f'neither a keyword, nor ggggeeee, nor "gggg,CREATOR,ee"{_nearest(target)}'
    tag = _tag_of(target)
    if tag in WHO or tag == SPECIFIC_CHARACTER_SET:
        return "without it nobody can tell whose the instance is, or read it"
    return _why_never(tag)


def _why_never(tag: int) -> str | None:
    """Return why no rule of a site may change this element, None if it may."""
    reasons = (
        (tag >= PIXEL_DATA_AND_LATER, "Pixel Data and what comes after it is never touched"),
        (tag >> 16 < 0x0008 or tag & 0xFFFF == 0, "it belongs to the encoding, not to the data set"),
        (tag in IDENTITIES, "it says which instance this is"),
        (tag >> 16 == 0x0028 and tag not in ABOUT_THE_VIEW, "it says how the pixels are to be read"),
        (tag == ORIGINAL_ATTRIBUTES, "it records what was changed (PS3.3 C.12.1.1.9)"),
        (BaseTag(tag).is_private_creator, "it says whose the private elements are"),
    )
    return next((reason for is_so, reason in reasons if is_so), None)


def _fixed_tags(targets: Iterable[str]) -> list[int]:
    return [_tag_of(target) for target in targets if target in keyword_dict or _TAG.fullmatch(target)]


def _tag_of(target: str) -> int:
    return keyword_dict[target] if target in keyword_dict else int(target, 16)


def _nearest(word: str) -> str:
    near = difflib.get_close_matches(word, list(keyword_dict), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""
