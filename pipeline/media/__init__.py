"""The disc: one patient's objects as an image that opens anywhere, read back before it is offered.

`make_disc` is the way in. Which file does what: docs/disc.md; why: docs/adr/0006-disc.md.
"""

from pipeline.media.making import make_disc, make_discs
from pipeline.media.model import (
    CD,
    DVD,
    MEDIA,
    Container,
    Disc,
    DiscOptions,
    InstanceOnDisc,
    LeftOut,
    Media,
    Medium,
    Patient,
    PlaceInSet,
    Progress,
    Replaced,
    SeriesOnDisc,
    Source,
    StudyOnDisc,
)

__all__ = [
    "CD",
    "DVD",
    "MEDIA",
    "Container",
    "Disc",
    "DiscOptions",
    "InstanceOnDisc",
    "LeftOut",
    "Media",
    "Medium",
    "Patient",
    "PlaceInSet",
    "Progress",
    "Replaced",
    "SeriesOnDisc",
    "Source",
    "StudyOnDisc",
    "make_disc",
    "make_discs",
]
