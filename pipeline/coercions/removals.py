"""The elements that opendicom/stow removes from every object, whatever default_coercions says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydicom import Dataset

from pipeline.coercions import proposed_removal
from pipeline.dicom.attributes.elements import private_tags
from pipeline.model import Change, Origin

if TYPE_CHECKING:
    from pipeline.config.site_table import SiteConfiguration

PRECEDENCE = 10

REQUESTING_SERVICE_CODE_SEQUENCE = 0x00321034


@dataclass(frozen=True, slots=True)
class RequestingService:
    """Remove RequestingServiceCodeSequence (0032,1034)."""

    name: str = "requesting-service"

    def propose(self, dataset: Dataset, _origin: Origin) -> Iterator[Change]:
        """Propose to remove the sequence if it is present."""
        if REQUESTING_SERVICE_CODE_SEQUENCE in dataset:
            yield proposed_removal(REQUESTING_SERVICE_CODE_SEQUENCE, dataset, self.name)


@dataclass(frozen=True, slots=True)
class GeiisThumbnail:
    """Remove GE's thumbnail (0009,xx10), whose item holds compressed pixels in any transfer syntax.

    Such an object cannot be decoded by its own transfer syntax (PS3.5 A.4). `xx` is the block that the creator
    GEIIS reserved; the same number under another creator stays.
    """

    name: str = "geiis-thumbnail"

    def propose(self, dataset: Dataset, _origin: Origin) -> Iterator[Change]:
        """Propose to remove the thumbnail in every block of GEIIS."""
        for tag in private_tags(dataset, 0x0009, "GEIIS", 0x10):
            if tag in dataset:
                yield proposed_removal(tag, dataset, self.name)


def rules(_settings: "SiteConfiguration") -> Sequence[RequestingService | GeiisThumbnail]:
    """Return both removals."""
    return (RequestingService(), GeiisThumbnail())
