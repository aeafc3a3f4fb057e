"""A whole site whose ledger is on a PostgreSQL server, which is gone for a while."""

import pydicom
import pytest
from support.machine.dicom_programs import dcmsend, free_port, wait_until
from support.machine.postgresql import postgresql
from support.peers.archives import orthanc_archive, study, study_uid
from support.sites import ledger_place
from support.sites.orders_site import orders_site

from pipeline.ledger import FILE_NAME
from pipeline.model import OrderState

pytestmark = pytest.mark.programs
MODALITIES = {"name": "modalities", "ae_title": "STORESTOW", "mode": "association", "quiet_seconds": 1}


@pytest.fixture(scope="module")
def scene(tmp_path_factory):
    folder, port, door = tmp_path_factory.mktemp("site"), free_port(), free_port()
    receiver = {**MODALITIES, "port": door, "to": ["shelf"]}
    with (
        postgresql() as server,
        ledger_place.on(server),
        orthanc_archive(folder / "pacs", port) as archive,
        orders_site(folder, archive, port, receivers=[receiver], shim={}) as site,
    ):
        yield server, archive, site, door


def test_a_study_is_received_coerced_delivered_and_traced(scene, tmp_path):
    _, _, site, door = scene
    files = study(tmp_path, "LINE", instances=3)
    assert dcmsend(door, *files).acknowledged == 3
    status = site.up.wait_status(
        lambda answer: answer["deliveries"]["delivered"] and answer["arrivals"]["settled"]
    )
    assert status["ledger"]["bytes"] > 1_000_000
    assert status["worker"]["state"] == "up"
    traced = site.up.trace("LINE")
    assert {one["deliveries"][0]["state"] for one in traced} == {"stored"}
    assert len(traced) == 3
    assert not (site.up.spool.root / FILE_NAME).exists()


def test_an_order_by_a_command_and_by_the_shim_is_retrieved_and_delivered(scene, tmp_path):
    _, archive, site, _ = scene
    files = study(tmp_path, "ORDER", instances=2)
    archive.store(*files)
    done = site.up.run("retrieve", "ORDER", "--to", "shelf")
    assert done.returncode == 0, done.stderr
    assert site.order("ORDER", destination="nowhere").state == OrderState.DONE
    assert {one["study_instance_uid"] for one in site.up.instances()} >= {study_uid(files)}
    assert site.up.run("check").returncode == 0


def test_while_the_server_is_gone_the_site_receives_and_afterwards_delivers(scene, tmp_path):
    server, _, site, door = scene
    files = study(tmp_path, "GONE", instances=2)
    server.stop()
    assert dcmsend(door, *files).acknowledged == 2
    assert site.up.run("status").returncode == 75
    wait_until(lambda: " held " in site.up.text(), seconds=60, what=site.up.end_of_text())
    assert site.up.process.poll() is None
    server.start()
    uids = {str(pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID) for file in files}

    def delivered() -> bool:
        asked = site.up.run("trace", "GONE", "--json")  # 64 until the first of them is known
        return asked.returncode == 0 and all(uid in asked.stdout for uid in uids) and "stored" in asked.stdout

    wait_until(delivered, seconds=90, what=site.up.end_of_text())
    assert site.up.status()["arrivals"]["quarantined"] == 0
    assert " bug " not in site.up.text()
