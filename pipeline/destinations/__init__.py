"""The kinds of destination: one file for each.

The name of the file is the word in `kind = "..."`; there is no other registration.

A destination *is* its validated configuration plus `deliver`. `null.py` is the smallest one. Every process of a
site reads the whole configuration, but only the worker delivers: a kind therefore imports in its methods what a
delivery needs, so that a receiver does not hold these modules in memory.
"""

import importlib
import pkgutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, PrivateAttr, field_validator

from pipeline.config.program_tables import ProgramsTable
from pipeline.dicom import encodings
from pipeline.dicom.placeholders import PLACEHOLDERS
from pipeline.model import Consignment, InstanceKey, Item, NewDisc, Receipt

START_OR_CORRECT = "start it, or correct its address in site.toml"  # The remedy if the peer does not answer.


@dataclass(frozen=True, slots=True)
class OnDiscs:
    """The settings of [site] for the pages of discs: their languages, the hospital's name, and its logo."""

    languages: tuple[str, ...] = ("en", "es")
    hospital: str = ""
    logo: Path | None = None


class Destination(BaseModel):
    """A place to which consignments go. `kind` is the module's name, `name` the site's name for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # `deliver` asks the peer what it has, so that repeating after the loss of the ledger is safe.
    asks_first: ClassVar[bool] = False
    # `holds` is implemented, so that an instance that the peer has lost is sent when it is received again.
    lists_what_it_has: ClassVar[bool] = False
    # `deliver` makes one file of all instances, so an order includes instances that were sent before.
    makes_file: ClassVar[bool] = False
    # The parts of a study may be delivered one after the other, while the rest is being prepared. A CD publisher
    # would make a disc of each part.
    takes_parts: ClassVar[bool] = False

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
    _on_discs: OnDiscs = PrivateAttr(default_factory=OnDiscs)

    def model_post_init(self, context: Any) -> None:
        """Take the settings that are not in the destination's own table from the context of the validation."""
        self._programs = (context or {}).get("programs")
        self._placeholders = (context or {}).get("placeholders", PLACEHOLDERS)
        self._on_discs = (context or {}).get("on_discs") or OnDiscs()

    @property
    def programs(self) -> ProgramsTable:
        """Return [programs]: the external programs a destination may call."""
        return self._programs or ProgramsTable()

    @property
    def writes_to(self) -> Path | None:
        """Return the folder into which deliveries write files, None if they go over the network."""
        return None

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Return [site] placeholder_ids: the Patient IDs that prove nothing."""
        return self._placeholders

    @property
    def on_discs(self) -> OnDiscs:
        """Return the settings of [site] for the pages of discs."""
        return self._on_discs

    @field_validator("encode")
    @classmethod
    def _encoding_exists(cls, encode: str) -> str:
        if encode not in encodings.names():
            raise ValueError(f'encode = "{encode}" is none of {", ".join(encodings.names())}')
        return encode

    def deliver(self, consignment: Consignment) -> Iterator[Receipt]:
        """Send every item and yield the peer's response to it.

        A later receipt of an instance replaces an earlier one.

        Call `consignment.attempt(items)` before the first byte of these items is sent. An item whose `attempted`
        is true may already be at the destination: ask before sending it again. An item without a final receipt
        stays pending and is tried again.

        Raises:
            PeerUnavailable: nothing can be sent now; yielded receipts count, the rest is deferred.
            Transient: this consignment cannot be finished now; it is deferred, other deliveries go on.
            Permanent: this consignment can never be delivered; the rest is refused.
            Configuration: a person must change the site's configuration; deferred with the reason.
        """
        raise NotImplementedError

    def has_been_seen(self, study_instance_uid: str, disc: NewDisc) -> bool:
        """Tell whether a recorded disc was ever visible under its name, and remove its remains if not.

        If `makes_file`, this is called before another disc of the study is made. Raises what `deliver` raises.
        """
        raise NotImplementedError

    def holds(self, items: Sequence[Item]) -> set[InstanceKey]:
        """Ask the peer which of these instances, delivered before, it still has; used if `lists_what_it_has`.

        Raises what `deliver` raises if there is no answer.
        """
        raise NotImplementedError

    def be_ready(self) -> None:
        """Import the modules that a delivery needs; called in a thread while the instances of an order come in."""

    def read_ahead(self, path: Path, scratch: Path) -> None:
        """Read in memory what a delivery needs of a file that comes in for an order; raises nothing."""

    def tidy(self) -> None:
        """Remove files that killed attempts have left; the worker calls this every few minutes."""

    def problems(self) -> Iterator[str]:
        """Ask the peer and yield one sentence for each problem, for `storestow check`.

        Raises Configuration for a problem that only a person can correct.
        """
        yield from ()

    def notes(self) -> Iterator[str]:
        """Yield further remarks about a peer without problems, for `storestow check`, one sentence each."""
        yield from ()


def kinds() -> list[str]:
    """Return the names of the kinds: the modules of this room."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def from_table(
    table: Any,
    programs: ProgramsTable | None = None,
    placeholders: tuple[str, ...] = PLACEHOLDERS,
    on_discs: OnDiscs | None = None,
) -> Destination:
    """Return the destination for a table [[destination]]; raises ValueError, which names the key."""
    if isinstance(table, Destination):
        return table
    if not isinstance(table, dict):
        raise ValueError("a [[destination]] is a table")  # noqa: TRY004  # pydantic turns ValueError into a finding
    return model_of(table.get("kind")).model_validate(
        table, context={"programs": programs, "placeholders": placeholders, "on_discs": on_discs}
    )


def model_of(kind: object) -> type[Destination]:
    """Return the class of a kind of destination; raises ValueError, which lists the kinds."""
    if kind not in kinds():
        raise ValueError(f"kind = {kind!r} is none of {', '.join(kinds())}")
    model: type[Destination] = importlib.import_module(f"{__name__}.{kind}").DESTINATION
    return model
