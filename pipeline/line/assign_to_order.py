"""Decide for each arriving file within which scope its UIDs identify it, and to which retrieval it belongs.

The line is one scope. Instances that the PACS sends for orders are outside it: each retrieval is a scope of its
own, so that it conflicts neither with a later retrieval nor with a modality's instances, although the archive may
have changed the study since. Instances from the PACS for which no retrieval waits are unclaimed; a later order may
use them. Instances from other senders to the receiver of orders are unclaimed, too, and no order uses them.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

from pipeline.ledger import retrievals, unclaimed
from pipeline.ledger.rows import RetrievalRow
from pipeline.ledger.scope import Scope, ScopeKind, of_retrieval, of_send
from pipeline.line.identify import ArrivalContents, IdentifiedFile
from pipeline.line.senders import sender_of, senders_of
from pipeline.model import InstanceState
from pipeline.site.site import SEND, Site


@dataclass(frozen=True, slots=True)
class OrderAssignment:
    """The scope and the retrievals to which a file belongs.

    `values` are the columns that it sets in the row of a sound instance that the line does not gather.
    """

    scope: Scope
    retrievals: tuple[int, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_gathered(self) -> bool:
        """Tell whether it is of the line."""
        return not self.values


_TO_SEND = {"state": InstanceState.RECEIVED, "reason": None, "consigned": True}
_RETRIEVED = {"state": InstanceState.PASSED, "reason": None, "consigned": True}


def claims(
    name: str, receiver: str, contents: ArrivalContents, site: Site
) -> Callable[[IdentifiedFile], OrderAssignment]:
    """Return a function that assigns each file of an arrival to its scope and retrievals."""
    pacs = site.settings.pacs
    if receiver == SEND:
        order = contents.envelope.order if contents.envelope else None
        return lambda _: OrderAssignment(of_send(order), values=_TO_SEND)
    if pacs is None or receiver != pacs.receiver:
        of_the_line = OrderAssignment(site.scope_of(receiver))
        return lambda _: of_the_line
    with site.ledger.reading() as look:
        studies = {found.key.study_instance_uid for found in contents.found if found.key}
        waiting = [(row, retrievals.asked_series(look, row.id)) for row in retrievals.claims(look, studies)]
    of_nobody, of_a_stranger = (
        OrderAssignment(Scope(kind, name), values=unclaimed.COLUMNS)
        for kind in (ScopeKind.UNCLAIMED, ScopeKind.STRANGER)
    )
    senders, envelope = senders_of(site.settings), contents.envelope
    is_of_c_get = envelope is not None and envelope.retrieval is not None

    def of(found: IdentifiedFile) -> OrderAssignment:
        if not (is_of_c_get or senders.include(sender_of(found, envelope))):
            return of_a_stranger
        numbers = tuple(row.id for row, series in waiting if _belongs(found, row, series))
        if not numbers:
            return of_nobody
        # For the newest of the retrievals nothing came before, so no file for it is a duplicate.
        return OrderAssignment(of_retrieval(numbers[-1]), numbers, _RETRIEVED)

    return of


def _belongs(found: IdentifiedFile, retrieval: RetrievalRow, series: Collection[str]) -> bool:
    """Tell whether a retrieval asked for this file; never for a file received before the retrieval began.

    A retrieval for some modalities asked for `series`: the PACS has named their modalities, and the modality in a
    file does not decide.
    """
    return bool(
        found.key
        and found.key.study_instance_uid == retrieval.study_instance_uid
        and (not retrieval.modalities or found.key.series_instance_uid in series)
        and retrieval.started_at is not None
        and found.received_at >= retrieval.started_at
    )
