"""The ways out: one file a kind. The file's name is the word in `kind = "..."`; nothing else registers it.

A destination *is* its validated configuration plus `deliver`. See `null.py` for the smallest one.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator

from pipeline.config.program_tables import ProgramsTable
from pipeline.dicom import encodings
from pipeline.dicom.same_patient import PLACEHOLDERS
from pipeline.model import Consignment, InstanceKey, Item, NewDisc, Receipt


class Destination(BaseModel):
    """Where consignments go. `kind` is the module's name, `name` the site's word for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    asks_first: ClassVar[bool] = False  # asks the peer what it has: safe to repeat after a lost ledger
    lists_what_it_has: ClassVar[bool] = False  # `holds` has an answer: what it lost is sent when it comes again
    makes_file: ClassVar[bool] = False  # makes one file of everything: an order leaves out nothing sent before

    name: str
    """What this destination is called here. Example: `"archive"`"""
    kind: str
    """Which kind of destination this is."""
    encode: str = "none"
    """How pixels are encoded before they are sent, losslessly: "none", or a codec as "j2k". Example: `"j2k"`"""
    slots: int = 1
    """Deliveries at once."""

    _programs: ProgramsTable | None = PrivateAttr(default=None)
    _placeholders: tuple[str, ...] = PrivateAttr(default=PLACEHOLDERS)

    def model_post_init(self, context: Any) -> None:
        """Take what the configuration hands on besides the destination's own table."""
        self._programs = (context or {}).get("programs")
        self._placeholders = (context or {}).get("placeholders", PLACEHOLDERS)

    @property
    def programs(self) -> ProgramsTable:
        """Return [programs]: where the site has the external programs a destination may call."""
        return self._programs or ProgramsTable()

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Return [site] placeholder_ids: the Patient IDs that prove nothing."""
        return self._placeholders

    @field_validator("encode")
    @classmethod
    def _encoding_exists(cls, encode: str) -> str:
        if encode not in encodings.names():
            raise ValueError(f'encode = "{encode}" is none of {", ".join(encodings.names())}')
        return encode

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Send every item and yield what the peer said; a later receipt of an instance replaces an earlier.

        Call `consignment.attempt(items)` before the first byte of these items leaves. An item may already
        be at the destination when `attempted` says so: ask before sending it again. An item without a
        final receipt stays pending and is tried again.

        Raises:
            PeerUnavailable: nothing can be sent now; what was yielded counts, the rest is deferred.
            Transient: this consignment cannot be finished now; deferred likewise, other deliveries go on.
            Permanent: this consignment can never be delivered; the rest is refused.
            Configuration: a person must change the site's configuration; deferred with the reason.
        """
        raise NotImplementedError

    def has_been_seen(self, study_instance_uid: str, disc: NewDisc) -> bool:
        """Tell whether a disc that was remembered has stood under its name, and clear away what is left of it.

        Asked where `makes_file`, before another disc of the study is made. Raises what `deliver` raises.
        """
        raise NotImplementedError

    def holds(self, items: Sequence[Item]) -> set[InstanceKey]:
        """Ask the peer which of these instances, delivered before, it still has; where it `lists_what_it_has`.

        Raises what `deliver` raises where there is no answer.
        """
        raise NotImplementedError

    def tidy(self) -> None:
        """Remove what attempts that were killed have left behind; called now and then."""

    def problems(self) -> Iterator[str]:
        """Ask the peer and yield one sentence a problem, for `storestow check`; none is good.

        Raises Configuration for what will not mend itself: a person must look.
        """
        yield from ()

    def notes(self) -> Iterator[str]:
        """Yield what `storestow check` says besides of a peer that has no problems, one sentence each."""
        yield from ()


def kinds() -> list[str]:
    """Return the kinds there are: the modules of this room."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def from_table(
    table: Any, programs: ProgramsTable | None = None, placeholders: tuple[str, ...] = PLACEHOLDERS
) -> Destination:
    """Return the destination a [[destination]] table describes; raises ValueError naming the key."""
    if isinstance(table, Destination):
        return table
    if not isinstance(table, dict):
        raise ValueError("a [[destination]] is a table")  # noqa: TRY004  # pydantic turns ValueError into a finding
    return model_of(table.get("kind")).model_validate(
        table, context={"programs": programs, "placeholders": placeholders}
    )


def model_of(kind: object) -> type[Destination]:
    """Return the class of a kind of destination; raises ValueError naming the kinds there are."""
    if kind not in kinds():
        raise ValueError(f"kind = {kind!r} is none of {', '.join(kinds())}")
    model: type[Destination] = importlib.import_module(f"{__name__}.{kind}").DESTINATION
    return model
