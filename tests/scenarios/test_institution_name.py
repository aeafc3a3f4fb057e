"""InstitutionName by who called: by AE title in study mode, by the true address in association mode."""

import re
from typing import Any

import pytest
from pydicom.uid import generate_uid
from support.machine.dicom_programs import dcmsend, wait_until
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.line_site import instance
from support.sites.running_site import RunningSite, running_site
from support.studies.accounting import read

pytestmark = pytest.mark.programs

AS_RECEIVED = "As received"
RECEIVERS = [{"name": mode, "mode": mode, "quiet_seconds": 1} for mode in ("study", "association")]


def new_instance(folder, **attributes):
    folder.mkdir(exist_ok=True)
    uid = generate_uid()
    return uid, instance(folder, uid, StudyInstanceUID=uid, InstitutionName=AS_RECEIVED, **attributes)


def send(site: RunningSite, folder, mode: str, calling: str) -> str:
    """Send an instance in a study of its own and return that study's UID."""
    study, file = new_instance(folder)
    assert dcmsend(site.ports[mode], file, calling=calling).acknowledged == 1
    return study


def arrived(archive: FakeDcm4chee, site: RunningSite, study: str) -> Any:
    (row,) = site.trace(study)
    return read(archive.stored[row["sop_instance_uid"]])


def destination(archive: FakeDcm4chee) -> dict[str, Any]:
    return {"name": "archive", "kind": "stow", "url": archive.url, "encode": "j2k"}


def test_the_mapping_is_asked_for_the_ae_title_and_then_for_the_address(tmp_path):
    mapping = {"CT_ONE": "Clínica São José", "127.0.0.1": "By its address"}
    with (
        FakeDcm4chee() as archive,
        running_site(
            tmp_path / "site", receivers=RECEIVERS, destinations=[destination(archive)], mapping=mapping
        ) as site,
    ):
        known = send(site, tmp_path / "sent", "study", "CT_ONE")
        by_title = send(site, tmp_path / "sent", "association", "CT_ONE")
        by_address = send(site, tmp_path / "sent", "association", "STRANGER")
        unknown = send(site, tmp_path / "sent", "study", "STRANGER")
        site.wait_settled(4)

        assert arrived(archive, site, known).InstitutionName == "Clínica São José"
        assert arrived(archive, site, by_title).InstitutionName == "Clínica São José"
        assert arrived(archive, site, by_address).InstitutionName == "By its address"
        assert arrived(archive, site, unknown).InstitutionName == AS_RECEIVED

        (row,) = site.trace(by_address)
        (change,) = [one for one in row["changes"] if one["keyword"] == "InstitutionName"]
        assert (change["before"], change["after"]) == (AS_RECEIVED, "By its address")
        (original,) = arrived(archive, site, by_address).OriginalAttributesSequence
        assert original.ModifiedAttributesSequence[0].InstitutionName == AS_RECEIVED

        said = re.findall(r"unknown-institution (.*)", site.text())
        assert said == ["calling_ae_title=STRANGER"]  # whose address study mode cannot know
        assert "mapping-loaded" in site.text()


@pytest.mark.parametrize("mode", ["study", "association"])
def test_what_comes_from_an_unknown_institution_can_be_kept_aside(tmp_path, mode):
    with (
        FakeDcm4chee() as archive,
        running_site(
            tmp_path / "site",
            mode=mode,
            destinations=[destination(archive)],
            mapping={"CT_ONE": "Our Hospital"},
            site={"unknown_institution": "quarantine"},
        ) as site,
    ):
        study, known = new_instance(tmp_path / "sent")
        stranger, unknown = new_instance(tmp_path / "sent")
        assert dcmsend(site.port, known, calling="CT_ONE").acknowledged == 1
        assert dcmsend(site.port, unknown, calling="STRANGER").acknowledged == 1
        site.wait_settled(2)

        assert arrived(archive, site, study).InstitutionName == "Our Hospital"
        (aside,) = site.quarantine()
        assert aside["study_instance_uid"] == stranger
        assert "STRANGER" in aside["reason"]
        assert len(archive.stored) == 1
        kept = site.arrivals()[aside["arrival"]] / aside["file"]
        assert read(kept).InstitutionName == AS_RECEIVED


def test_what_was_kept_aside_goes_on_once_the_mapping_knows_the_sender(tmp_path):
    def running(archive, mapping):
        return running_site(
            tmp_path / "site",
            destinations=[destination(archive)],
            mapping=mapping,
            site={"unknown_institution": "quarantine"},
        )

    with FakeDcm4chee() as archive:
        study, unknown = new_instance(tmp_path / "sent")
        with running(archive, {"CT_ONE": "Our Hospital"}) as site:
            assert dcmsend(site.port, unknown, calling="STRANGER").acknowledged == 1
            site.wait_settled(1)
        with running(archive, {"CT_ONE": "Our Hospital", "STRANGER": "Theirs"}) as site:
            (aside,) = site.quarantine()
            released = site.run("quarantine", "release", f"{aside['arrival']}/{aside['file']}")
            assert released.returncode == 0, released.stderr
            wait_until(lambda: archive.stored, seconds=60, what="the released instance")
            site.wait_settled(1)
            assert arrived(archive, site, study).InstitutionName == "Theirs"
            assert site.quarantine() == []
