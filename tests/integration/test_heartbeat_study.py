"""The study that tests the line goes through a real site, from storescp to the destination, and is timed."""

import time

import pytest
from support.machine.dicom_programs import wait_until
from support.sites.running_site import running_site

from pipeline.alarms.heartbeat_study import PATIENT, HeartbeatStudy
from pipeline.ledger import FILE_NAME, Ledger, heartbeat_studies
from pipeline.site.settings import load

pytestmark = pytest.mark.programs

HEARTBEAT = '[alarm]\nheartbeat = { receiver = "modalities", every = "10m", within = "5m" }\n'


@pytest.mark.parametrize("mode", ["study", "association"])
def test_it_is_sent_received_encoded_delivered_and_verified(tmp_path, mode):
    (tmp_path / "out").mkdir()
    keeper = {"name": "keeper", "kind": "folder", "folder": str(tmp_path / "out"), "encode": "j2k"}
    with running_site(tmp_path, mode=mode, destinations=[keeper], more=HEARTBEAT) as site:
        ledger = Ledger(site.spool.root / FILE_NAME)
        heartbeat = HeartbeatStudy(load(site.file), ledger)

        def verified() -> bool:
            assert heartbeat.look(time.time()) == []
            with ledger.reading() as connection:
                study = heartbeat_studies.read(connection, None)
            return study is not None and study.verified_at is not None

        try:
            wait_until(verified, seconds=60, what="the study to be verified")
            with ledger.reading() as connection:
                study = heartbeat_studies.read(connection, None)
        finally:
            ledger.close()
        (instance,) = site.trace(study.study_instance_uid)
        assert PATIENT not in site.text()
    assert 0 < study.seconds < 60
    assert instance["state"] == "encoded"
    assert instance["deliveries"][0]["verified"]
