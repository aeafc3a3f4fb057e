"""The site's own rules, one for each [[coercion]] table (docs/coercion.md has the grammar)."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from pydicom import Dataset

from pipeline.coercions import is_empty, proposed_removal, proposed_value, tag_of
from pipeline.config.coercion_mistakes import MODALITY, mistakes_in, tags_of_target
from pipeline.config.coercion_tables import CoercionTable
from pipeline.config.site_table import SiteConfiguration
from pipeline.dicom.attributes.character_sets import CharacterSet, declared_by, text_of
from pipeline.dicom.attributes.elements import SPECIFIC_CHARACTER_SET
from pipeline.dicom.attributes.widening import UndecodableText, check_readable
from pipeline.errors import Configuration
from pipeline.model import Change, Origin

PRECEDENCE = 90


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
