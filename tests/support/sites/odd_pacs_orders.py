"""A site of orders whose PACS is odd in the way that a test sets."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from support.machine.dicom_programs import free_port
from support.peers.archives import study
from support.peers.odd_pacs import OddPacs, odd_pacs
from support.sites.orders_site import OrdersSite, orders_site

from pipeline.model import OrderError, OrderState
from pipeline.orders import OrderView


@contextlib.contextmanager
def odd_pacs_orders(folder: Path) -> Iterator[tuple[OddPacs, OrdersSite]]:
    """Yield one PACS and one site for all tests of a file; what is odd is set by each test."""
    port = free_port()
    shim = {"move_timeout": "3s", "order_timeout": "60s"}
    with odd_pacs(port) as pacs, orders_site(folder, pacs.archive(), port, shim=shim) as site:
        yield pacs, site


def a_study_of(pacs: OddPacs, folder: Path, test: str) -> str:
    """Let the PACS hold a study of three instances that only this test knows of; return its accession number."""
    name = f"A{abs(hash(test)) % 10**9}"
    pacs.hold(*study(folder, name))
    return name


def outcome(view: OrderView) -> tuple[OrderState, OrderError | None, int, int | None, int]:
    return view.state, view.error_kind, view.received, view.expected, view.sent
