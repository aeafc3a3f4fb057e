"""One study, or one instance, comes to two machines: what was handed over first wins, and a second patient waits.

The two arrive at the same moment, by association mode at one machine and study mode at the other.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pydicom
import pytest
from support.machine.dicom_programs import storescu, wait_until
from support.sites.acceptance import report, size
from support.sites.machine_cluster import Cluster, cluster, small_study
from support.sites.machines import ASSOCIATION, STUDY

pytestmark = pytest.mark.programs
STUDIES = size(4, 40)


@pytest.fixture(scope="module")
def it(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with cluster(tmp_path_factory.mktemp("split")) as found:
        found.start(*found.machines)
        yield found


def send_at_once(it: Cluster, pairs: Sequence[tuple[list[Path], list[Path]]]) -> None:
    """Send the first files of each pair to one machine and the others to the other one; wait for the accounts."""
    first, second = it.machines
    with ThreadPoolExecutor(4) as threads:
        sent = []
        for one, other in pairs:
            sent.append((len(one), threads.submit(storescu, STUDY, *one, host=first.address)))
            sent.append((len(other), threads.submit(storescu, ASSOCIATION, *other, host=second.address)))
    assert all(count == answer.result().acknowledged for count, answer in sent)
    files = sum(count for count, _ in sent)
    uids = {uid_of(file) for pair in pairs for half in pair for file in half}

    def has_ended() -> bool:
        mine = [row for row in it.site.rows("instance") if row["sop_instance_uid"] in uids]
        return (
            len(mine) == files
            and it.site.is_settled(1)
            and not it.ask("SELECT 1 FROM delivery WHERE state <> 'delivered'")
        )

    wait_until(has_ended, seconds=180, what="every file has its account")


def uid_of(file: Path) -> str:
    return named(file)[2]


def states_of(it: Cluster, files: Sequence[Path]) -> Counter[tuple[str, Any]]:
    uids = {uid_of(file) for file in files}
    return Counter(
        (str(row["state"]), row["code"]) for row in it.site.rows("instance") if row["sop_instance_uid"] in uids
    )


def arrived(it: Cluster, files: Sequence[Path]) -> list[list[tuple[str, str, str]]]:
    """Return study, patient and instance of these files at each destination, as often as they are there."""
    uids = {uid_of(file) for file in files}
    return [
        sorted(found for file in place if (found := named(file))[2] in uids)
        for place in (it.archive.iterdir(), it.site.filed.rglob("*.dcm"))
    ]


def named(file: Path) -> tuple[str, str, str]:
    one = pydicom.dcmread(file)
    return str(one.StudyInstanceUID), str(one.PatientID), str(one.SOPInstanceUID)


def test_a_study_that_is_split_over_two_machines_arrives_as_a_whole(it, tmp_path):
    studies = [small_study(tmp_path / "files", 10_000 + number, 4) for number in range(STUDIES)]
    send_at_once(it, [(files[:2], files[2:]) for files in studies])
    files = [file for study in studies for file in study]
    assert states_of(it, files) == {("passed", None): len(files)}
    for there in arrived(it, files):
        assert there == sorted(map(named, files))


def test_an_instance_that_comes_to_two_machines_is_delivered_once_and_the_other_is_a_duplicate(it, tmp_path):
    files = [small_study(tmp_path / "files", 20_000 + number, 1)[0] for number in range(STUDIES)]
    send_at_once(it, [([file], [file]) for file in files])
    assert states_of(it, files) == {("passed", None): STUDIES, ("duplicate", None): STUDIES}
    for there in arrived(it, files):
        assert len(there) == len(set(there)) == STUDIES
    accounts = [json.loads(file.read_bytes()) for file in it.site.store.glob("settled/*/account.json")]
    kept = Counter(
        one["state"]
        for account in accounts
        for one in account["instances"]
        if one["sop_instance_uid"] in set(map(uid_of, files))
    )
    assert kept == {"passed": STUDIES, "duplicate": STUDIES}


def test_of_two_patients_under_one_study_at_two_machines_one_goes_out_and_the_other_waits(it, tmp_path):
    pairs = [
        (
            small_study(tmp_path / "files", 30_000 + number, 2, PatientID="ANNA"),
            small_study(tmp_path / "files", 30_000 + number, 2, PatientID="BERTA"),
        )
        for number in range(STUDIES)
    ]
    send_at_once(it, pairs)
    files = [file for pair in pairs for half in pair for file in half]
    assert states_of(it, files) == {("passed", None): 2 * STUDIES, ("quarantined", "other-patient"): 2 * STUDIES}
    by_study = [{(study, patient) for study, patient, _ in there} for there in arrived(it, files)]
    assert by_study[0] == by_study[1], "both destinations have the same patient"
    assert len(by_study[0]) == len({study for study, _ in by_study[0]}) == STUDIES, "one patient a study"
    assert " held " not in it.text(), "whoever was slower was judged again at once"
    report(3, "of two patients under one study the first", str(Counter(patient for _, patient in by_study[0])))
