"""What a [[coercion]] table may contain; what no rule may do is in `coercion_mistakes.py` (docs/coercion.md)."""

from typing import Literal

from pydantic import Field

from pipeline.config.keys import Table


class CoercionTable(Table):
    """One rule of the site, a table [[coercion]]; it is applied after the shipped rules (docs/design.md)."""

    set: dict[str, str] = Field(default_factory=dict)
    """Attributes by keyword, each with the text it gets. Example: `{ ReferringPhysicianName = "-^-^-^-" }`"""
    remove: tuple[str, ...] = ()
    """Attributes to remove: keyword, ggggeeee, or "gggg,CREATOR,ee".
    Example: `["RequestingServiceCodeSequence"]`"""
    when: Literal["empty", "always"] = "always"
    """Whether `set` replaces any value, or only one that is absent or empty."""
    calling_ae_title: str | None = None
    """Only what this AE title sent: a shell pattern, upper and lower case differ. Example: `"CT*"`"""
    peer: str | None = None
    """Only what came from this address: a shell pattern; study mode knows no addresses. Example: `"10.1.2.*"`"""
    receiver: str | None = None
    """Only what came in by the receiver of this name: a shell pattern. Example: `"modalities"`"""
    modality: str | None = None
    """Only instances of this Modality (0008,0060): a shell pattern. Example: `"CT"`"""
