"""Whether the parts of this machine run: what a cluster manager asks."""

import socket
from pathlib import Path

from support.machine.dicom_programs import free_port
from support.sites.beating import beat_once
from support.sites.line_site import settings_for, working

from pipeline.config.order_tables import ShimTable
from pipeline.operate.own_parts import parts_of
from pipeline.receiving.lock import held


def test_each_part_is_named_and_said_to_run_or_not(tmp_path: Path) -> None:
    port = free_port()
    settings = settings_for(tmp_path).model_copy(update={"shim": ShimTable(port=port)})
    with working(settings) as (site, _):  # it holds the worker's lock, and has not reported yet
        assert {part.name: part.runs for part in parts_of(settings, site.ledger)} == {
            "worker": False,
            "receiver modalities": False,
            "shim": False,
        }
        beat_once(site.spool.root)
        with (
            held(site.spool, settings.receiver[0]),
            socket.create_server(("127.0.0.1", port)),
        ):
            parts = parts_of(settings, site.ledger)
        assert [part for part in parts if not part.runs] == []
        assert parts[1].detail == "port 11112"
