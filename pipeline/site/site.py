"""The running site: configuration, spool, ledger and process pool, passed from stage to stage."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.coercions import Rule
from pipeline.config.institutions import Institutions
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.destinations import Destination
from pipeline.dicom.patient import Patient
from pipeline.ledger import Ledger
from pipeline.ledger.claims import Claimant
from pipeline.ledger.scope import LINE, Scope, ScopeKind
from pipeline.processes.process_pool import ProcessPool
from pipeline.site import routing
from pipeline.site.settings import Settings
from pipeline.spool.hashed_files import FilesByState, HashedFiles
from pipeline.spool.spool import Spool

SEND = "_send"  # The receiver name of `storestow send`; no configured receiver can have it.
# The patients that the PACS names for a study, by Study Instance UID.
PacsPatients = dict[str, tuple[Patient, ...]]


@dataclass(frozen=True, slots=True)
class Site:
    """What every stage of the line needs, made once when the worker starts."""

    settings: Settings
    spool: Spool
    ledger: Ledger
    pool: ProcessPool
    institutions: Institutions
    rules: Sequence[Rule]
    aside: ProcessPool  # One process for orders, because a person waits for them, however busy the line is.
    rebuilt_at: float | None = None  # The time the ledger was lost; arrivals admitted earlier are not sent twice.
    claimant: Claimant = field(default_factory=Claimant)  # By this it claims what it works at.
    hashed: HashedFiles = field(default_factory=HashedFiles)
    # The patients of files that came for orders and may be sent as they are.
    as_received: FilesByState[Patient] = field(default_factory=FilesByState)
    awaited: set[str] = field(default_factory=set)  # The destinations of the open orders, as last looked at.
    pacs_patients: dict[int, PacsPatients] = field(default_factory=dict)  # Kept by open order, in memory only.

    def receiver(self, name: str) -> ReceiverTable | None:
        """Return the receiver `name`, None if it is no longer configured."""
        return next((r for r in self.settings.receiver if r.name == name), None)

    @property
    def receiver_of_orders(self) -> str | None:
        """Return the name of the receiver the PACS sends to."""
        return self.settings.pacs.receiver if self.settings.pacs else None

    def is_for_orders(self, receiver: str) -> bool:
        """Tell whether instances of this receiver come for an order, for which a person waits."""
        return receiver in {SEND, self.receiver_of_orders}

    def pool_of(self, receiver: str) -> ProcessPool:
        """Return the processes that read what this receiver takes in."""
        return self.pool_for_orders if self.is_for_orders(receiver) else self.pool

    @property
    def pool_for_orders(self) -> ProcessPool:
        """Return the processes that prepare what was retrieved: all of them where nothing waits for one."""
        return self.aside if self.pool.waiting else self.pool

    def destinations_of(self, receiver: str) -> tuple[Destination, ...]:
        """Return where instances of a receiver may go, by its routes or its own `to`; each destination once."""
        names = dict.fromkeys(way.destination for way in self._possible(receiver))
        return tuple(self.settings.destination_named(name) for name in names)

    def encodings_of(self, receiver: str) -> frozenset[str]:
        """Return the encodings that the destinations of a receiver's instances may want."""
        return frozenset(way.encode for way in self._possible(receiver))

    def _possible(self, receiver: str) -> tuple[routing.Routed, ...]:
        table = self.receiver(receiver)
        return tuple(routing.possible(self.settings, table)) if table else ()

    def rules_of(self, receiver: str) -> Sequence[Rule]:
        """Return the rules that coerce what a receiver takes in, none if it says `coerce = false`."""
        table = self.receiver(receiver)
        return self.rules if table and table.coerce else ()

    def scope_of(self, receiver: str) -> Scope:
        """Return the scope within which an instance's UIDs identify it."""
        table = self.receiver(receiver)
        return LINE if table and table.coerce else Scope(ScopeKind.RECEIVER, receiver)
