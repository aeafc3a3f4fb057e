"""A modality that was not told of the next patient: sent by storescu in both modes, decided by the commands."""

import pytest
from pydicom.uid import generate_uid
from support.machine.dicom_programs import storescu
from support.sites.line_site import instance
from support.sites.running_site import running_site

pytestmark = pytest.mark.programs

RECEIVERS = [{"name": mode, "mode": mode, "ae_title": "STORESTOW"} for mode in ("study", "association")]


@pytest.mark.parametrize("mode", ["study", "association"])
def test_the_next_patients_images_under_the_study_before_wait_for_a_person(tmp_path, mode):
    study, other_study = generate_uid(), generate_uid()

    def made(name: str, patient: str, of: str):
        return instance(tmp_path, name, StudyInstanceUID=of, PatientID=patient, PatientName="DOE^JO")

    with running_site(tmp_path / "site", receivers=RECEIVERS) as site:
        port = site.ports[mode]
        first = [made(f"first-{number}", "A-111", study) for number in range(3)]
        next_patient = [made(f"next-{number}", "B-999", study) for number in range(2)]
        own = made("own", "B-999", other_study)
        assert storescu(port, *first, *next_patient, own).acknowledged == 6
        status = site.wait_settled(6)
        assert status["instances"]["quarantined"] == 2
        assert status["deliveries"]["delivered"] == 2
        assert {one["code"] for one in site.quarantine()} == {"other-patient"}
        late = made("late", "B-999", study)
        assert storescu(port, late).acknowledged == 1
        assert site.wait_settled(7)["instances"]["quarantined"] == 3

        alarms = [line for line in site.text().splitlines() if " ERROR " in line and " quarantined " in line]
        assert len(alarms) == 1, alarms
        assert f"study={study} code=other-patient instances=2" in alarms[0]
        assert not any(word in site.text() for word in ("A-111", "B-999", "DOE"))

        assert site.run("quarantine", "release", "--study", study).returncode == 64
        one = site.quarantine()[0]
        refused = site.run("quarantine", "release", f"{one['arrival']}/{one['file']}")
        assert refused.returncode == 65
        assert f"--study {study} --reason" in refused.stderr
        deleted = site.run("quarantine", "discard", f"{one['arrival']}/{one['file']}", "--yes")
        assert deleted.returncode == 0
        released = site.run("quarantine", "release", "--study", study, "--reason", "the number was corrected")
        assert (released.returncode, released.stdout.splitlines()) == (
            0,
            [f"2 instances will be sent as of the study {study}"],
        )
        status = site.wait_status(lambda status: status["instances"]["passed"] == 6)
        site.wait_settled(6)
        assert site.quarantine() == []

        third = made("third", "C-1", study)
        assert storescu(port, third).acknowledged == 1
        site.wait_status(lambda status: status["instances"]["quarantined"] == 2)  # the discarded one counts, too
        gone = site.run("quarantine", "discard", "--study", study, "--yes")
        assert (gone.returncode, gone.stdout) == (0, "1 files deleted\n")
        assert site.quarantine() == []
