"""Routes with the real programs: storescu sends, two destinations get each what is theirs, `explain` tells it."""

import json

import pytest
from pydicom import dcmread
from support.machine.dicom_programs import storescp, storescu
from support.sites.line_site import instance
from support.sites.running_site import running_site

pytestmark = pytest.mark.programs

ROUTES = """
[[route]]
modality = "CT"
to = ["pacs", "share"]

[[route]]
sop_class = "*MR Image Storage"
calling_ae_title = "MR*"
to = ["share"]
"""


def test_what_storescu_sends_goes_where_its_routes_say(tmp_path):
    (tmp_path / "share").mkdir()
    (tmp_path / "files").mkdir()
    ct = instance(tmp_path / "files", "ct", PatientID="P1")
    mr, other = (instance(tmp_path / "files", name, source="MR_small.dcm", PatientID="P1") for name in ("mr", "o"))
    with storescp(tmp_path / "pacs") as port:
        destinations = [
            {
                "name": "pacs",
                "kind": "cstore",
                "host": "127.0.0.1",
                "port": port,
                "ae_title": "ANY-SCP",
                "calling_ae_title": "STORESTOW",
            },
            {"name": "share", "kind": "folder", "folder": str(tmp_path / "share")},
            {"name": "rest", "kind": "null"},
        ]
        receivers = [{"name": "modalities", "ae_title": "STORESTOW", "quiet_seconds": 1, "to": ["rest"]}]
        with running_site(tmp_path / "site", receivers=receivers, destinations=destinations, more=ROUTES) as site:
            assert storescu(site.port, ct, calling="CT1").acknowledged == 1
            assert storescu(site.port, mr, calling="MR1").acknowledged == 1
            assert storescu(site.port, other).acknowledged == 1
            site.wait_settled(3)
            went = {
                (one["study_instance_uid"], way["destination"])
                for one in site.instances()
                for way in one["deliveries"]
            }
            studies = {file: str(dcmread(file).StudyInstanceUID) for file in (ct, mr)}
            assert went == {
                (studies[ct], "pacs"),
                (studies[ct], "share"),
                (studies[mr], "share"),
                (studies[mr], "rest"),
            }
            told = site.ask("explain", str(ct), "--calling-ae-title", "CT1")
            ways = [(way["destination"], way["by"]) for way in told["destinations"]]
            assert ways == [("pacs", "route 1"), ("share", "route 1")]
            assert site.ask("explain", "--last", "500")["changed"] == 0
            new = site.folder / "new.toml"
            new.write_text(site.file.read_text().replace('to = ["pacs", "share"]', 'to = ["pacs"]'))
            done = site.run("explain", "--last", "500", "--site", str(new))
            assert "2 studies looked at, 1 would go another way" in done.stdout
            assert (
                json.loads(site.run("explain", "--last", "5", "--json", "--site", str(new)).stdout)["changed"] == 1
            )
            assert site.run("explain").returncode == 64
    assert len(list((tmp_path / "pacs").iterdir())) == 1
    assert len(list((tmp_path / "share").rglob("*.dcm"))) == 2
