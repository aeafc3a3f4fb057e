"""The site at work: its configuration, its rooms, its ledger and its pool, handed from stage to stage."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.coercions import Rule
from pipeline.config.institutions import Institutions
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.destinations import Destination
from pipeline.dicom.patient import Patient
from pipeline.ledger import Ledger
from pipeline.processes.process_pool import ProcessPool
from pipeline.site.settings import Settings
from pipeline.spool.spool import Spool

SEND = "_send"  # the receiver of `storestow send`, so to speak: no configured one can be called so
PacsPatients = dict[str, tuple[Patient, ...]]  # whom the PACS names for a study, by its Study Instance UID
LINE = "line"  # the scope of everything a coercing receiver takes in (docs/design.md, State)


@dataclass(frozen=True, slots=True)
class Site:
    """What every stage of the line needs, made once when the worker starts."""

    settings: Settings
    spool: Spool
    ledger: Ledger
    pool: ProcessPool
    institutions: Institutions
    rules: Sequence[Rule]
    aside: ProcessPool  # one process for orders: a person waits for them, whatever the line has in hand
    rebuilt_at: float | None = None  # the ledger was lost then: what was admitted before is not sent twice
    pacs_patients: dict[int, PacsPatients] = field(default_factory=dict)  # by open order, in memory alone

    def receiver(self, name: str) -> ReceiverTable | None:
        """Return the receiver `name`, None if the configuration no longer knows it."""
        return next((r for r in self.settings.receiver if r.name == name), None)

    @property
    def receiver_of_orders(self) -> str | None:
        """Return the name of the receiver the PACS sends to."""
        return self.settings.pacs.receiver if self.settings.pacs else None

    def is_for_orders(self, receiver: str) -> bool:
        """Tell whether what comes in there came for an order, which a person waits for."""
        return receiver in {SEND, self.receiver_of_orders}

    def pool_of(self, receiver: str) -> ProcessPool:
        """Return the processes that read what comes in there."""
        return self.aside if self.is_for_orders(receiver) else self.pool

    def destinations_of(self, receiver: str) -> tuple[Destination, ...]:
        """Return where the instances of a receiver go."""
        table = self.receiver(receiver)
        return tuple(self.settings.destination_named(name) for name in table.to) if table else ()

    def rules_of(self, receiver: str) -> Sequence[Rule]:
        """Return the rules that coerce what a receiver takes in: none where it says `coerce = false`."""
        table = self.receiver(receiver)
        return self.rules if table and table.coerce else ()

    def scope_of(self, receiver: str) -> str:
        """Return the scope within which an instance's UIDs identify it."""
        table = self.receiver(receiver)
        return LINE if table and table.coerce else f"receiver:{receiver}"
