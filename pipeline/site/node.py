"""This machine as a node of the ledger: its name, what it reports, and when it counts as lost."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from pipeline.ledger import Ledger, nodes
from pipeline.ledger.claims import Claimant
from pipeline.ledger.nodes import KnownNode
from pipeline.site.settings import Settings

LOST_AFTER_SECONDS = 30.0  # Without [cluster].


class NodeState(StrEnum):
    """`lost`: it has ended, or has not reported for `lost_after`; `draining`: it takes nothing new."""

    UP = "up"
    LOST = "lost"
    DRAINING = "draining"


def claimant_of(settings: Settings) -> Claimant:
    """Return by which names the worker of this machine claims work: in a cluster both are the node's."""
    return Claimant(settings.cluster.name, settings.cluster.name) if settings.cluster else Claimant()


def name_in_cluster(settings: Settings) -> str | None:
    """Return the name of this node of a cluster, None where there is no cluster."""
    return settings.cluster.name if settings.cluster else None


def lost_after(settings: Settings) -> float:
    """Return the seconds without a report after which others take over what a node had in hand."""
    return settings.cluster.lost_after.total_seconds() if settings.cluster else LOST_AFTER_SECONDS


def site_hash(settings: Settings) -> str:
    """Return a hash of the configuration, without what is each machine's own."""
    told = settings.model_dump_json(
        exclude={"folder": True, "site": {"spool"}, "cluster": {"node"}}, serialize_as_any=True
    )
    return hashlib.sha256(told.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node as `status` tells of it."""

    name: str
    version: str
    seen_seconds: float
    state: NodeState
    receivers: Sequence[str]  # That were up when it reported last, as the next.
    at_the_door: int  # Folders that were not admitted.
    in_hand: int  # Deliveries, studies and retrievals.


def node_statuses(settings: Settings, ledger: Ledger) -> list[NodeStatus]:
    """Return every node that has worked on the ledger and was not forgotten, by name."""
    with ledger.reading() as connection:
        found = nodes.known(connection)
    return [
        NodeStatus(
            node.report.name,
            node.report.version,
            round(node.seen_seconds, 1),
            _state_of(node, settings),
            node.report.receivers,
            node.report.at_the_door,
            node.in_hand,
        )
        for node in found
    ]


def _state_of(node: KnownNode, settings: Settings) -> NodeState:
    if node.seen_seconds >= lost_after(settings) or node.lost_at is not None:
        return NodeState.LOST
    return NodeState.DRAINING if node.draining else NodeState.UP
