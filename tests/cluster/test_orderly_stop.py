"""A node that is stopped amid its work: nobody works beside it, and another goes on as soon as it has ended.

Lanes to every kind of destination are full, and a long study is being encoded. The destinations do not answer
until the node has ended, so that it must give up what it has in hand.
"""

import threading
import time
from collections import Counter, defaultdict
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from support.machine.dicom_programs import wait_until
from support.machine.faulty_disk import HANG, faulty_disk
from support.machine.postgresql import PostgresqlServer
from support.peers.fake_dcm4chee import FakeDcm4chee, Hang
from support.peers.storage_peer import storage_peer
from support.sites import ledger_place
from support.sites.acceptance import report, size
from support.sites.cluster_site import ClusterSite
from support.sites.line_site import instance
from support.sites.running_nodes import log_of, running

pytestmark = pytest.mark.programs
SLOTS = 2
KINDS = ("archive", "printer", "filed", "discs")
LONG, ROWS = size(24, 1200), 1024  # Images of 2 MB: some 20 s of encoding, or 10 minutes.
MOST_SECONDS, AT_ONCE_SECONDS = 30.0, 10.0


def long_study(folder: Path) -> list[Path]:
    noise = np.random.default_rng(9)
    about = {"StudyInstanceUID": "1.2.9", "Rows": ROWS, "Columns": ROWS}
    return [
        instance(
            folder,
            f"long-{number}",
            PixelData=noise.integers(0, 1 << 10, (ROWS, ROWS), np.int16).tobytes(),
            **about,
        )
        for number in range(LONG)
    ]


def test_a_node_that_is_stopped_keeps_its_slots_until_its_end_and_another_begins_at_once(
    postgresql_server: PostgresqlServer, tmp_path: Path
):
    may_answer = threading.Event()
    with ExitStack() as stack:
        stack.enter_context(ledger_place.on(postgresql_server))
        archive = stack.enter_context(FakeDcm4chee())
        archive.every_store = Hang()
        printer = stack.enter_context(storage_peer(answer=lambda _received: 0 if may_answer.wait(120) else 0xA700))
        stack.callback(may_answer.set)
        (tmp_path / "real").mkdir()
        (tmp_path / "share").mkdir()
        share = stack.enter_context(faulty_disk(tmp_path / "real", tmp_path / "share"))
        for folder in ("filed", "discs"):
            (share.mount_point / folder).mkdir()
        to_printer = {"kind": "cstore", "ae_title": "PRINTER", "host": "127.0.0.1", "port": printer.port}
        destinations = [
            {"name": "archive", "kind": "stow", "url": archive.url, "encode": "j2k", "slots": SLOTS},
            {
                "name": "printer",
                **to_printer,
                "calling_ae_title": "STORESTOW",
                "response_timeout": "120s",
                "slots": SLOTS,
            },
            {"name": "filed", "kind": "folder", "folder": str(share.mount_point / "filed"), "slots": SLOTS},
            {"name": "discs", "kind": "iso", "folder": str(share.mount_point / "discs"), "slots": SLOTS},
        ]
        site = ClusterSite(tmp_path / "site")
        a, b = (site.node(name, destinations=destinations) for name in ("a", "b"))
        commands = stack.enter_context(running())
        first = commands.start(a, "work")
        wait_until(lambda: "worker-started" in log_of(a).read_text(), seconds=90, what="the first node")
        share.fail(HANG, "create", "mkdir", "write")
        for number in range(SLOTS):
            files = [instance(tmp_path, f"{number}-{one}", StudyInstanceUID=f"1.2.3.{number}") for one in range(2)]
            a.arrive(*files)
        in_hand = SLOTS * len(KINDS)
        wait_until(lambda: sending(site).total() == in_hand, seconds=120, what="lanes that are full")
        a.arrive(*long_study(tmp_path))
        wait_until(lambda: site.rows("study_claim"), seconds=300, what="the long study in hand")
        commands.start(b, "work")
        wait_until(
            lambda: {row["name"] for row in site.rows("node")} == {"a", "b"}, seconds=90, what="the other node"
        )
        stopped = time.time()
        first.terminate()
        at_once: Counter[str] = Counter()
        while first.poll() is None:
            at_once |= sending(site)
            assert time.time() - stopped < 2 * MOST_SECONDS, log_of(a).read_text()[-3000:]
            time.sleep(0.2)
        ended = time.time()
        assert first.returncode == 0, log_of(a).read_text()[-3000:]
        may_answer.set()
        archive.every_store = None
        archive.release.set()
        share.work()
        wait_until(lambda: site.is_settled(SLOTS + 1), seconds=size(300, 3600), what="all is settled")
        tried = site.rows("attempt")
        by_b = min(row["began_at"] for row in tried if row["node"] == "b")
        (left,) = (row["lost_at"] for row in site.rows("node") if row["name"] == "a")
        of_b = log_of(b).read_text()
        report(9, "seconds from SIGTERM to the end of the node", f"{ended - stopped:.1f}")
        report(9, "deliveries in hand meanwhile, by destination", str(dict(sorted(at_once.items()))))
        report(9, "seconds from its end to the next node's first attempt", f"{by_b - ended:.1f}")
        assert ended - stopped <= MOST_SECONDS
        assert set(at_once.values()) == {SLOTS}, "never more than the slots"
        assert left <= by_b <= ended + AT_ONCE_SECONDS, "once it has nothing in hand, and not after lost_after"
        assert "taken-over" not in of_b
        assert "node-lost" not in of_b
        assert f"node-left node=a deliveries={in_hand} " in log_of(a).read_text()
        assert "encoded study=1.2.9 " in of_b
        assert "encoded study=1.2.9 " not in log_of(a).read_text(), "elsewhere, once"
        deliveries = site.rows("delivery")
        assert {row["state"] for row in deliveries} == {"delivered"}
        assert len(deliveries) == len(KINDS) * (SLOTS + 1)
        instances = SLOTS * 2 + LONG
        for where, sent in (
            ("archive", contents_of(archive.received)),
            ("printer", contents_of([(one.uid, one.data) for one in printer.received])),
        ):
            assert len(sent) == instances
            assert {len(contents) for contents in sent.values()} == {1}, f"{where}: the same bytes each time"
        assert len(list(share.folder.glob("filed/**/*.dcm"))) == instances
        assert len(list(share.folder.glob("discs/*.iso"))) == SLOTS + 1
        assert not any("Traceback" in log_of(node).read_text() for node in (a, b))


def sending(site: ClusterSite) -> Counter[str]:
    return Counter(row["destination"] for row in site.rows("delivery") if row["state"] == "sending")


def contents_of(received: list[tuple[str, object]]) -> dict[str, set[object]]:
    found: defaultdict[str, set[object]] = defaultdict(set)
    for uid, content in received:
        found[uid].add(content)
    return found
