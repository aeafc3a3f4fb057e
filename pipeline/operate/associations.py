"""The number of open associations of each receiver, from the kernel's table of connections."""

from collections import Counter
from collections.abc import Iterable

import psutil

from pipeline.config.receiver_tables import ReceiverTable


def open_associations(receivers: Iterable[ReceiverTable]) -> dict[str, int]:
    """Return how many connections are established at the port of each receiver, by its name."""
    connections = psutil.net_connections("tcp")
    ports = Counter(c.laddr.port for c in connections if c.laddr and c.status == psutil.CONN_ESTABLISHED)
    return {receiver.name: ports[receiver.port] for receiver in receivers}
