"""Set Institution Name (0008,0080) from the site's mapping, whatever the modality sent."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import Dataset

from pipeline.coercions import proposed_value
from pipeline.config import institutions
from pipeline.config.institutions import Institutions, line_to_paste
from pipeline.errors import Configuration, Permanent
from pipeline.model import Change, Origin

if TYPE_CHECKING:
    from pipeline.config.site_table import SiteConfiguration

PRECEDENCE = 30


@dataclass(frozen=True, slots=True)
class MappedInstitution:
    """Set the mapped name; an instance of an unknown sender keeps its name or is quarantined."""

    institutions: Institutions
    quarantine_unknown: bool
    name: str = "institution"

    def propose(self, _dataset: Dataset, origin: Origin) -> Iterator[Change]:
        """Propose the mapped name; raises Permanent for an unknown sender if the site says so."""
        sender = origin.calling_ae_title, origin.peer, origin.receiver
        institution = self.institutions.of(*sender)
        if institution is not None:
            yield proposed_value("InstitutionName", institution, self.name)
        elif self.quarantine_unknown:
            raise Permanent(
                f"no institution is known for this sender; add a line to {self.institutions.file}: "
                f"{line_to_paste(*sender)}"
            )


def rules(settings: "SiteConfiguration") -> Sequence[MappedInstitution]:
    """Return the rule, none if the site has no mapping.

    Raises:
        Configuration: the mapping is wrong, or missing although unknown senders are to be quarantined.
    """
    quarantine = settings.site.unknown_institution == "quarantine"
    mapping = settings.site.institution_mapping
    if mapping is None:
        if quarantine:
            raise Configuration('site.unknown_institution = "quarantine" needs site.institution_mapping')
        return ()
    return (MappedInstitution(institutions.read(settings.beside(mapping)), quarantine),)
