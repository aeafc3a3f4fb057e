"""opendicom/stow's default values for attributes that would be NULL in the archive's database."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from pydicom import Dataset

from pipeline.coercions import is_empty, proposed_value, tag_of
from pipeline.model import Change, Origin

if TYPE_CHECKING:
    from pipeline.config.site_table import SiteConfiguration

PRECEDENCE = 20

VALUES = MappingProxyType(
    {
        "NameOfPhysiciansReadingStudy": "-^-^-",
        "StudyID": "29991231235959",
        "ReferringPhysicianName": "-^-^-^-",
    }
)


@dataclass(frozen=True, slots=True)
class EmptyValue:
    """Set one attribute if it is empty, or always, as opendicom/stow's code did."""

    keyword: str
    text: str
    always: bool
    name: str = "default-value"

    def propose(self, dataset: Dataset, _origin: Origin) -> Iterator[Change]:
        """Propose the value."""
        if self.always or is_empty(dataset, tag_of(self.keyword)):
            yield proposed_value(self.keyword, self.text, self.name)


def rules(settings: "SiteConfiguration") -> Sequence[EmptyValue]:
    """Return a rule for each attribute, none if default_coercions is off."""
    when = settings.site.default_coercions
    if when == "off":
        return ()
    return [EmptyValue(keyword, text, always=when == "always") for keyword, text in VALUES.items()]
