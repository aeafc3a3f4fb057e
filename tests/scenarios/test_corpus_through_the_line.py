"""Every object of the corpus from a sender to a real archive, and an account of each one, in both modes."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import CORPUS
from pydicom import Dataset
from pydicom.datadict import tag_for_keyword
from pydicom.uid import ExplicitVRBigEndian
from support.machine.dicom_programs import Orthanc, dcmsend, orthanc
from support.peers.raw_sender import Object, object_of, renamed, send
from support.sites.running_site import RunningSite, running_site
from support.studies.accounting import (
    ORIGINAL_ATTRIBUTES,
    Key,
    archived,
    are_same_pixels,
    changed_values,
    data_set_of,
    fingerprint,
    received,
)
from support.studies.storage_classes import CLASSES

pytestmark = [pytest.mark.programs, pytest.mark.filterwarnings("ignore")]  # real objects earn many warnings

ARRIVES = {"encoded", "passed"}
TEXTS = {".md", ".csv", ".txt", ".json", ".py", ".pem", ".key", ".xml", ".bin", ".rtf"}
EXPECTED = {  # of the corpus, by mode: at least so many of each
    "study": {"encoded": 200, "passed": 190, "duplicate": 15, "conflict": 40, "quarantined": 6},
    # what comes again in JPEG Lossless or JPEG-LS is told by its decoded pixels: a duplicate, no conflict
    "association": {"encoded": 200, "passed": 190, "duplicate": 30, "conflict": 35, "quarantined": 45},
}


@dataclass
class Account:
    """What was sent, what was answered (empty: acknowledged), and what became of it."""

    objects: list[Object] = field(default_factory=list)
    answers: list[str] = field(default_factory=list)
    rows: list[dict[str, Any]] = field(default_factory=list)
    kept: dict[tuple[str, str], Object] = field(default_factory=dict)
    archive: dict[Key, Dataset] = field(default_factory=dict)
    status: dict[str, Any] = field(default_factory=dict)
    listed: list[dict[str, Any]] = field(default_factory=list)

    def acknowledged(self) -> list[Object]:
        return [one for one, answer in zip(self.objects, self.answers, strict=True) if not answer]

    def unacknowledged(self) -> list[tuple[Object, str]]:
        return [(one, answer) for one, answer in zip(self.objects, self.answers, strict=True) if answer]

    def rows_of(self, *states: str) -> list[dict[str, Any]]:
        return [row for row in self.rows if row["state"] in states]

    def table(self) -> str:
        """Return a line for every outcome and reason, the most frequent first."""
        counted = Counter((row["state"], row["reason"] or "") for row in self.rows)
        for row in self.rows_of(*ARRIVES):
            for delivery in row["deliveries"]:
                if delivery["state"] not in {"stored", "warned", "present", "duplicate"}:
                    counted["refused by the archive", delivery["message"] or delivery["code"] or ""] += 1
        counted.update(("refused by storescp", answer) for _, answer in self.unacknowledged())
        head = (
            f"{len(self.objects)} sent, {len(self.acknowledged())} acknowledged, {len(self.kept)} kept "
            f"(storescp keeps some it refuses), {len(self.archive)} in the archive"
        )
        lines = [f"{count:6} {state:22} {reason}" for (state, reason), count in sorted(counted.items())]
        names = [f"       refused by storescp: {one.name}: {answer}" for one, answer in self.unacknowledged()]
        return "\n".join([head, *lines, *names])


@pytest.mark.parametrize("mode", ["study", "association"])
def test_every_object_of_the_corpus_arrives_or_says_why_not(mode, corpus, tmp_path, record_property):
    """One test a mode, because the one run behind all these questions is dear."""
    account = run(mode, corpus, tmp_path)
    record_property(f"table: the corpus in {mode} mode", account.table())
    nothing_is_unaccounted_for(account, mode)
    every_reason_is_said(account)
    nothing_waits_and_the_numbers_agree(account, mode)
    the_archive_holds_what_is_said_to_have_arrived_and_nothing_else(account)
    of_several_objects_under_one_name_the_first_arrives(account)
    every_pixel_arrives_as_it_was_sent(account)
    no_value_changes_but_as_the_account_says(account)


def run(mode: str, corpus: Path, folder: Path) -> Account:
    """Send the corpus; then, under names of their own, the objects that came second under a name."""
    account = Account()
    with (
        orthanc(folder / "orthanc") as archive,
        running_site(folder / "site", mode=mode, destinations=[destination(archive)]) as site,
    ):
        for batch in batches(corpus):
            store(account, site, batch)
        try_otherwise(account, site, corpus, folder / "report.txt")
        store(account, site, second_under_a_name(account.acknowledged()))
        account.status = site.wait_settled(len(account.acknowledged()), seconds=240)
        account.rows = site.instances()
        account.kept = received(site)
        account.archive = archived(archive)
        account.listed = site.quarantine()
    return account


def destination(archive: Orthanc) -> dict[str, Any]:
    return {"name": "archive", "kind": "stow", "url": archive.studies, "encode": "j2k"}


def batches(corpus: Path) -> list[list[Object]]:
    """Return the corpus as its folders: each is sent over associations of its own."""
    folders: dict[Path, list[Object]] = {}
    for path in sorted(corpus.rglob("*")):
        if path.is_file() and path.suffix not in TEXTS and "LICENSES" not in path.parts:
            folders.setdefault(path.parent, []).append(object_of(path, name=str(path.relative_to(corpus))))
    return list(folders.values())


def store(account: Account, site: RunningSite, objects: Sequence[Object]) -> None:
    account.objects += objects
    account.answers += send(site.port, objects, calling="MODALITY")


def try_otherwise(account: Account, site: RunningSite, corpus: Path, report: Path) -> None:
    """Have dcmsend try what was not acknowledged: it parses, and sends what it understood in its own way."""
    files = [corpus / one.name for one, _ in account.unacknowledged()]
    dcmsend(site.port, *files, calling="MODALITY", options=["+crf", str(report)])
    statuses = dict(re.findall(r"Filename +: (.*)\n(?:.*\n)*?DIMSE Status +: (.*)", report.read_text()))
    sent = [one for one in account.objects if "Success" in statuses.get(str(corpus / one.name), "")]
    kept = [(one, answer) for one, answer in zip(account.objects, account.answers, strict=True) if one not in sent]
    account.objects, account.answers = (list(column) for column in zip(*kept, strict=True))
    account.objects += sent  # in the order of their acknowledgement, which decides who is first under a name
    account.answers += [""] * len(sent)


def second_under_a_name(objects: Sequence[Object]) -> list[Object]:
    """Return what came under UIDs that were taken, each under a SOP Instance UID of its own."""
    seen: Counter[Key] = Counter()
    again = []
    for one in objects:
        key = fingerprint(one).key
        seen[key] += 1
        if all(key) and seen[key] > 1 and one.sop_instance.encode() in one.data_set:
            again.append(renamed(one, f"{one.sop_instance[:-4]}{seen[key]:04}"))
    return again


def key_of(row: dict[str, Any]) -> Key:
    return Key(row["study_instance_uid"], row["series_instance_uid"], row["sop_instance_uid"])


def stored(account: Account) -> list[dict[str, Any]]:
    return [row for row in account.rows_of(*ARRIVES) if row["deliveries"][0]["state"] == "stored"]


def not_stored(account: Account) -> list[dict[str, Any]]:
    return [row for row in account.rows_of(*ARRIVES) if row["deliveries"][0]["state"] != "stored"]


def is_readable(one: Object) -> bool:
    try:
        data_set_of(one)
    except Exception:  # whatever pydicom raises
        return False
    return True


def nothing_is_unaccounted_for(account: Account, mode: str) -> None:
    kept = Counter(fingerprint(one) for one in account.kept.values())
    acknowledged = Counter(fingerprint(one) for one in account.acknowledged())
    refused = {fingerprint(one) for one, _ in account.unacknowledged()}  # some of those storescp leaves behind
    missing, more = acknowledged - kept, kept - acknowledged
    lost = [one for one in account.acknowledged() if fingerprint(one) in missing]
    found = [one for one in account.kept.values() if fingerprint(one) in more.keys() - refused]
    assert not [one.name for one in lost if is_readable(one)]  # what storescp alone understands, it makes readable
    assert Counter(one.sop_instance for one in lost) == Counter(one.sop_instance for one in found)
    assert sorted((row["arrival"], row["file"]) for row in account.rows) == sorted(account.kept)
    if mode == "association":  # storescp parses nothing there, so it keeps what it acknowledges
        assert not kept - acknowledged


def every_reason_is_said(account: Account) -> None:
    for row in account.rows_of("quarantined", "conflict", "duplicate"):
        assert row["reason"]
        assert not row["deliveries"]
    aside = [(row["arrival"], row["file"]) for row in account.rows_of("quarantined", "conflict")]
    assert sorted(aside) == sorted((one["arrival"], one["file"]) for one in account.listed if one["file"])
    for row in not_stored(account):
        assert row["deliveries"][0]["state"] == "refused"
        assert row["deliveries"][0]["message"]


def nothing_waits_and_the_numbers_agree(account: Account, mode: str) -> None:
    counted = Counter(row["state"] for row in account.rows)
    assert dict(counted) == {state: count for state, count in account.status["instances"].items() if count}
    deliveries = account.status["deliveries"]
    assert deliveries["waiting"] + deliveries["sending"] + deliveries["deferred"] == 0
    assert bool(deliveries["refused"]) == bool(not_stored(account))
    if CORPUS.is_dir():
        assert len(not_stored(account)) <= 3
        assert all(counted[state] >= least for state, least in EXPECTED[mode].items()), counted
        arrived = {row["sop_class_uid"] for row in stored(account)}
        assert {name for name, uid in CLASSES.items() if uid not in arrived} == {"NM", "XRF"}  # none in the corpus


def the_archive_holds_what_is_said_to_have_arrived_and_nothing_else(account: Account) -> None:
    assert sorted(account.archive) == sorted(key_of(row) for row in stored(account))
    assert all(row["deliveries"][0]["verified"] for row in stored(account))


def of_several_objects_under_one_name_the_first_arrives(account: Account) -> None:
    good = account.rows_of(*ARRIVES, "duplicate", "conflict")
    kept = {fingerprint(account.kept[row["arrival"], row["file"]]) for row in good}
    first: dict[Key, Object] = {}
    for one in account.objects:
        if fingerprint(one) in kept:
            first.setdefault(fingerprint(one).key, one)
    for row in account.rows_of(*ARRIVES):
        one = account.kept[row["arrival"], row["file"]]
        assert fingerprint(one) == fingerprint(first[key_of(row)]), first[key_of(row)].name


def every_pixel_arrives_as_it_was_sent(account: Account) -> None:
    sent = {fingerprint(one): one for one in account.objects}
    for row in stored(account):
        one = sent[fingerprint(account.kept[row["arrival"], row["file"]])]
        assert are_same_pixels(data_set_of(one), account.archive[key_of(row)]), one.name


def no_value_changes_but_as_the_account_says(account: Account) -> None:
    for row in stored(account):
        one, arrived = account.kept[row["arrival"], row["file"]], account.archive[key_of(row)]
        said = {tag_for_keyword(change["keyword"]) for change in row["changes"]}
        changed = changed_values(data_set_of(one), arrived) - said
        assert changed <= ({ORIGINAL_ATTRIBUTES} if said else set()) | turned(one, arrived), (one, row)


def turned(one: Object, arrived: Dataset) -> set[int]:
    """Return what has other bytes and the same values once big endian has become little endian: VR OW."""
    is_turned = one.transfer_syntax == ExplicitVRBigEndian != arrived.file_meta.TransferSyntaxUID
    return {int(element.tag) for element in arrived if element.VR == "OW"} if is_turned else set()
