"""Take a node out of the work of the others, and back: `storestow drain` and `storestow forget`."""

from pipeline import engine
from pipeline.errors import Usage
from pipeline.events import Event, emit
from pipeline.ledger import Ledger, nodes, told_alarms
from pipeline.site.node import NodeState, claimant_of, node_statuses
from pipeline.site.settings import Settings


def drain(settings: Settings, ledger: Ledger, name: str = "", *, undo: bool = False) -> str:
    """Let a node finish what it has in hand and take nothing new, or with `undo` take again; return its name.

    Without `name` it is this machine. It stays so over restarts. Raises Usage if there is no such node.
    """
    name = name or claimant_of(settings).node
    with ledger.transaction() as change:
        is_known = nodes.drain(change, name, draining=not undo)
        ledger.engine.ring(change, engine.NODES)
        names = [node.report.name for node in nodes.known(change)]
    if not is_known:
        raise Usage(f"there is no node {name}; the nodes are {', '.join(names) or 'none'}")
    emit(Event.DRAINING, node=name, draining="no" if undo else "yes")
    return name


def forget(settings: Settings, ledger: Ledger, name: str) -> None:
    """Forget a node that is lost and does not come back; one that comes back is known again.

    Raises Usage if there is no such node, if it is not lost, and while something it had in hand is not taken over.
    """
    found = next((node for node in node_statuses(settings, ledger) if node.name == name), None)
    if found is None:
        raise Usage(f"there is no node {name}")
    if found.state is not NodeState.LOST:
        raise Usage(f"{name} reported {found.seen_seconds:.0f} s ago; only a node that is lost is forgotten")
    if found.in_hand:
        raise Usage(f"{name} has {found.in_hand} in hand, which another node takes over first: is one up?")
    with ledger.transaction() as change:
        nodes.forget(change, name)
        told_alarms.write(change, [], name)
        ledger.engine.ring(change, engine.NODES)
    emit(Event.NODE_FORGOTTEN, node=name, at_the_door=found.at_the_door)
