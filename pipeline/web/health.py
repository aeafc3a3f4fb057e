"""Whether orders can be served now; peers are asked at most every half minute, however often clients ask."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pipeline.alarms.conditions import Condition, lost_nodes
from pipeline.config.order_tables import PacsTable
from pipeline.cstore.pdu_connection import Peer
from pipeline.cstore.requestor import echo
from pipeline.destinations import Destination
from pipeline.errors import StorestowError
from pipeline.ledger import nodes
from pipeline.receiving.lock import is_up
from pipeline.site.node import NodeState, NodeStatus, claimant_of, lost_after, node_statuses
from pipeline.site.worker_state import WorkerState, worker_status
from pipeline.web.order_service import OrderService, ask

FRESH_SECONDS = 30.0
DRAIN_FRESH_SECONDS = 1.0  # A balancer asks every few seconds; hundreds of clients must not read the ledger each.
DRAIN_KNOWN_SECONDS = 5.0  # So long an answer counts while the next look is on its way.

Part = tuple[str, bool, bool, str]  # Name, whether it works, whether orders need it, and a sentence.
Seen = tuple[float, list[Part]]  # Monotonic time of the look, and what was seen.


class Health:
    """The result of the last look at everything an order needs."""

    def __init__(
        self, order_service: OrderService, look: "Callable[[OrderService], list[Part]] | None" = None
    ) -> None:
        self._order_service = order_service
        self._look = look or look_at
        self._look_at_node: Callable[[OrderService], Iterator[Part]] = _nothing if look else _node
        self._lock = threading.Lock()
        self._seen: Seen | None = None
        self._node_seen: Seen | None = None
        self._asked: asyncio.Future[dict[str, Any]] | None = None

    async def receives(self, receiver: str) -> bool:
        """Say whether a receiver of this machine takes associations, for a balancer: it is up, and no one drains.

        No peer is asked, because a dead PACS is no reason to turn modalities away. While the ledger cannot be
        read, it receives.
        """
        return await ask(self._receives, receiver)

    def _receives(self, receiver: str) -> bool:
        service = self._order_service
        return not list(_node(service)) and any(
            is_up(service.spool, table) for table in service.settings.receiver if table.name == receiver
        )

    async def told(self) -> dict[str, Any]:
        """Return the `report`; concurrent callers share one thread, so that threads are left for orders.

        What was known a moment ago is returned at once, and looked at again beside that: a balancer must not wait
        for a thread behind those who fetch discs.
        """
        if not self._is_fresh() and (self._asked is None or self._asked.done()):
            self._asked = asyncio.ensure_future(ask(self.report))
            # A look that fails is not lost: once nothing is known any more, the caller that waits for it gets it.
            self._asked.add_done_callback(lambda asked: asked.cancelled() or asked.exception())
        seen, node = self._seen, self._node_seen
        if seen and node and _is_within(FRESH_SECONDS, seen) and _is_within(DRAIN_KNOWN_SECONDS, node):
            return _reported([*seen[1], *node[1]])
        assert self._asked is not None
        return await asyncio.shield(self._asked)

    def report(self) -> dict[str, Any]:
        """Return `{"status": …, "parts": …}`; concurrent callers wait for one look."""
        with self._lock:
            if not _is_within(FRESH_SECONDS, self._seen):
                self._seen = (time.monotonic(), self._look(self._order_service))
            if not _is_within(DRAIN_FRESH_SECONDS, self._node_seen):
                self._node_seen = (time.monotonic(), list(self._look_at_node(self._order_service)))
            assert self._seen is not None
            assert self._node_seen is not None
            return _reported([*self._seen[1], *self._node_seen[1]])

    def _is_fresh(self) -> bool:
        return _is_within(FRESH_SECONDS, self._seen) and _is_within(DRAIN_FRESH_SECONDS, self._node_seen)


def _is_within(seconds: float, seen: Seen | None) -> bool:
    return seen is not None and time.monotonic() - seen[0] <= seconds


def _reported(parts: list[Part]) -> dict[str, Any]:
    return {
        "status": status_of(parts),
        "parts": {name: {"ok": is_well, "detail": words} for name, is_well, _, words in parts},
    }


def status_of(parts: list[Part]) -> str:
    """Return `down` if orders cannot be served, `degraded` if some of them cannot, otherwise `ok`."""
    if any(needed and not is_well for _, is_well, needed, _ in parts):
        return "down"
    return "ok" if all(is_well for _, is_well, _, _ in parts) else "degraded"


def look_at(order_service: OrderService) -> list[Part]:
    """Look at the ledger, the worker, the receiver, the PACS, and every destination of the links."""
    return [*_ours(order_service), *_peers(order_service)]


def _ours(order_service: OrderService) -> Iterator[Part]:
    try:
        worker = worker_status(order_service.settings, order_service.ledger())
        others = [node for node in _nodes(order_service) if node.state is NodeState.UP]
        lost = _lost(order_service)
    except StorestowError:
        yield ("ledger", False, True, "cannot be used now")
        yield ("worker", False, True, "is not known: that stands in the ledger")
        return
    yield ("ledger", True, True, "can be read")
    words = f"{worker}{_elsewhere(others)}"
    yield ("worker", worker.state is WorkerState.UP or bool(others), True, words)
    if others and worker.state is not WorkerState.UP:
        yield ("worker here", False, False, str(worker))
    yield from ((one.key.replace(":", " "), False, False, one.text) for one in lost)


def _nodes(order_service: OrderService) -> list[NodeStatus]:
    """Return the other nodes that are not lost: any of them may take an order's steps, or what the PACS sends.

    Raises Transient if the ledger cannot be read now.
    """
    settings = order_service.settings
    if settings.cluster is None:
        return []
    found = node_statuses(settings, order_service.ledger())
    return [node for node in found if node.state is not NodeState.LOST and node.name != settings.cluster.name]


def _lost(order_service: OrderService) -> list[Condition]:
    """Return the other nodes that are lost: the rest do their work, but a person must know."""
    settings = order_service.settings
    if settings.cluster is None:
        return []
    with order_service.ledger().reading() as connection:
        return list(lost_nodes(nodes.known(connection), settings.cluster.name, lost_after(settings)))


def _elsewhere(nodes: Sequence[NodeStatus]) -> str:
    return f", here; elsewhere it is: {', '.join(node.name for node in nodes)}" if nodes else ""


def _nothing(_order_service: OrderService) -> Iterator[Part]:
    return iter(())


def _node(order_service: OrderService) -> Iterator[Part]:
    """Yield a part if this node drains."""
    name = claimant_of(order_service.settings).node
    with contextlib.suppress(StorestowError), order_service.ledger().reading() as connection:
        if nodes.is_draining(connection, name):
            yield ("node", False, True, f"{name} is draining and takes nothing new")


def _peers(order_service: OrderService) -> Iterator[Part]:
    """Ask all peers at once, because each may take its whole time-out."""
    settings = order_service.settings
    if settings.pacs is None:
        yield ("pacs", False, True, "there is no [pacs] to retrieve from")
        return
    is_listening = is_up(order_service.spool, settings.receiver_named(settings.pacs.receiver))
    elsewhere: list[NodeStatus] = []
    with contextlib.suppress(StorestowError):
        elsewhere = [node for node in _nodes(order_service) if settings.pacs.receiver in node.receivers]
    words = f"{'is listening' if is_listening else 'is not listening'}{_elsewhere(elsewhere)}"
    yield ("receiver", is_listening or bool(elsewhere), True, words)
    names = dict.fromkeys(name for names in settings.link_destinations.values() for name in names)
    with ThreadPoolExecutor(len(names) + 1) as at_once:
        archive = at_once.submit(_echo_problem, settings.pacs)
        others = {name: at_once.submit(_problem, settings.destination_named(name)) for name in names}
    problem = archive.result()
    yield ("pacs", problem is None, True, problem or "answers")
    for name, asked in others.items():
        problem = asked.result()
        yield (f"destination {name}", problem is None, False, problem or "nothing wrong found")


def _problem(destination: Destination) -> str | None:
    try:
        return next(destination.problems(), None)
    except StorestowError as error:
        return str(error)


def _echo_problem(pacs: PacsTable) -> str | None:
    """Return what keeps the PACS from answering a C-ECHO, None if it answers."""
    seconds = pacs.connect_timeout.total_seconds()
    peer = Peer(
        host=pacs.host,
        port=pacs.port,
        ae_title=pacs.ae_title,
        calling_ae_title=pacs.calling_ae_title,
        connect_seconds=seconds,
        associate_seconds=seconds,
        response_seconds=seconds,
        max_pdu=16384,
    )
    try:
        status = echo(peer).status
    except StorestowError as error:
        return str(error)
    return f"answers a C-ECHO with status 0x{status:04X}" if status else None
