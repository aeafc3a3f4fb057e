"""[[route]]: where instances go that meet all conditions of the table (docs/routes.md)."""

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated

from pydantic import Field, field_validator

from pipeline.config.keys import Name, Table
from pipeline.dicom import encodings


@dataclass(frozen=True, slots=True)
class RouteFacts:
    """What routes can test of an instance, all as received; None where it is not known."""

    receiver: str
    calling_ae_title: str
    called_ae_title: str
    peer: str | None = None
    modality: str | None = None
    sop_class_uid: str | None = None
    body_part: str | None = None


class RouteTable(Table):
    """[[route]]: where instances go that meet all its conditions. Every matching route counts; see routes.md."""

    to: Annotated[tuple[Name, ...], Field(min_length=1)]
    """Names of the destinations. What matches no route goes where its receiver's `to` says.
    Example: `["archive", "teaching"]`"""
    encode: str | None = None
    """How pixels are encoded on this route; where it is not written, the destination's own `encode` counts.
    Example: `"none"`"""
    whole_study: bool = False
    """Whether the whole study goes there as soon as one instance of it matches. Discs always get the whole
    study."""
    calling_ae_title: str | None = None
    """Only what this AE title sent: a shell pattern, upper and lower case differ. Example: `"CT*"`"""
    called_ae_title: str | None = None
    """Only what called us by this AE title: a shell pattern; study mode knows the receiver's own alone.
    Example: `"TEACHING"`"""
    peer: str | None = None
    """Only what came from this address: a shell pattern; study mode knows no addresses. Example: `"10.1.2.*"`"""
    receiver: str | None = None
    """Only what came in by the receiver of this name: a shell pattern. Example: `"modalities"`"""
    modality: str | None = None
    """Only instances of this Modality (0008,0060), as received: a shell pattern. Example: `"CT"`"""
    sop_class: str | None = None
    """Only instances of this SOP Class (0008,0016): a shell pattern of its UID, or of its name in the standard.
    Example: `"*SR Storage"`"""
    body_part: str | None = None
    """Only instances of this Body Part Examined (0018,0015), as received: a shell pattern. Example: `"BREAST"`"""

    @field_validator("to")
    @classmethod
    def _names_each_once(cls, to: tuple[str, ...]) -> tuple[str, ...]:
        if twice := sorted({name for name in to if to.count(name) > 1}):
            raise ValueError(f"it names {', '.join(twice)} twice; once is enough, each instance is sent once")
        return to

    @field_validator("encode")
    @classmethod
    def _encoding_exists(cls, encode: str | None) -> str | None:
        if encode is not None and encode not in encodings.names():
            raise ValueError(f'encode = "{encode}" is none of {", ".join(encodings.names())}')
        return encode

    def matches(self, facts: RouteFacts) -> bool:
        """Tell whether an instance meets every condition; what is not known of it meets none."""
        return all(
            any(value is not None and fnmatchcase(value, pattern) for value in values)
            for pattern, values in self._conditions(facts)
        )

    def may_match_receiver(self, name: str) -> bool:
        """Tell whether a receiver of this name meets the route's condition, or the route has none on receivers."""
        return self.receiver is None or fnmatchcase(name, self.receiver)

    def _conditions(self, facts: RouteFacts) -> Iterator[tuple[str, tuple[str | None, ...]]]:
        """Yield each condition that is written, with the values of which one must match."""
        uid = facts.sop_class_uid
        for pattern, values in (
            (self.calling_ae_title, (facts.calling_ae_title.strip(),)),
            (self.called_ae_title, (facts.called_ae_title.strip(),)),
            (self.peer, (facts.peer,)),
            (self.receiver, (facts.receiver,)),
            (self.modality, (facts.modality,)),
            (self.sop_class, (uid, _class_name(uid) if uid and self.sop_class else None)),
            (self.body_part, (facts.body_part,)),
        ):
            if pattern is not None:
                yield pattern, values


def _class_name(uid: str) -> str:
    """Return the name of a SOP Class in the standard, the UID itself for one that is not in it."""
    from pydicom.uid import UID  # noqa: PLC0415  # a process that only waits need not hold it

    return UID(uid).name
