"""The account of what was sent: what storestow says of every instance, and what the archive says of itself."""

import json
import subprocess
from dataclasses import dataclass
from typing import Any

from archive import Archive
from rich.table import Table
from study import Study

ARRIVED = {"stored", "warned", "present", "duplicate"}
AT_AN_END = {"delivered", "refused"}
NOT_TO_BE_DELIVERED = {"quarantined", "conflict", "duplicate"}


@dataclass(frozen=True)
class Account:
    """Counts of instances; `problems` says what became of those that did not arrive."""

    received: int = 0
    coerced: int = 0
    encoded: int = 0
    passed: int = 0
    duplicates: int = 0
    stored: int = 0
    finished: int = 0  # nothing more will happen to these by itself
    problems: tuple[str, ...] = ()


def ask(command: list[str], study: Study) -> tuple[Account, str]:
    """Return the account of `study` by `storestow trace`, and what trace said where it could not answer."""
    instances: list[dict[str, Any]] = []
    for uid in study.instances:
        done = subprocess.run(
            [*command, "trace", uid, "--json"],
            capture_output=True,
            text=True,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        if done.returncode:
            return Account(), done.stderr.strip()
        instances += [one for found in json.loads(done.stdout)["studies"] for one in found["instances"]]
    return _count(instances), ""


def _count(instances: list[dict[str, Any]]) -> Account:
    states = [instance["state"] for instance in instances]
    deliveries = [[delivery["state"] for delivery in instance["deliveries"]] for instance in instances]
    return Account(
        received=len(instances),
        coerced=sum(1 for instance in instances if instance["changes"]),
        encoded=states.count("encoded"),
        passed=states.count("passed"),
        duplicates=states.count("duplicate"),
        stored=sum(1 for said in deliveries if said and ARRIVED.issuperset(said)),
        finished=sum(1 for instance in instances if _has_ended(instance)),
        problems=tuple(_problems(instances)),
    )


def _has_ended(instance: dict[str, Any]) -> bool:
    deliveries = {delivery["delivery_state"] for delivery in instance["deliveries"]}
    return instance["state"] in NOT_TO_BE_DELIVERED or (bool(deliveries) and deliveries <= AT_AN_END)


def _problems(instances: list[dict[str, Any]]) -> list[str]:
    sentences = [
        f"{one['sop_instance_uid']}: {one['state']}, {one['reason']}"
        for one in instances
        if one["state"] in {"quarantined", "conflict"}
    ]
    return sentences + [
        f"{one['sop_instance_uid']}: refused by {delivery['destination']}, {delivery['code']}"
        for one in instances
        for delivery in one["deliveries"]
        if delivery["state"] == "refused"
    ]


def verified(archive: Archive, study: Study) -> int:
    """Count the instances of `study` which the archive, asked by QIDO-RS, says it has."""
    return sum(len(uids & archive.sop_instance_uids(study_uid)) for study_uid, uids in study.instances.items())


def table(account: Account, study: Study, archive: Archive, seconds: float) -> Table:
    """Return the account as a table for a terminal."""
    rows = Table(title="What became of it", title_justify="left", show_header=False)
    rows.add_column()
    rows.add_column(justify="right")
    rows.add_column()
    stored_bytes = sum(archive.stored_bytes(uid) for uid in study.instances)
    ratio = f", ratio {study.size / stored_bytes:.2f}" if stored_bytes else ""
    for words in (
        ("sent", study.count, "instances, by dcmsend"),
        ("received", account.received, "by storescp, and read"),
        ("coerced", account.coerced, "attributes changed, recorded in Original Attributes"),
        (
            "encoded",
            account.encoded,
            f"JPEG 2000 lossless, {_megabytes(study.size)} -> {_megabytes(stored_bytes)}{ratio}",
        ),
        ("passed", account.passed, "sent as they came"),
        ("duplicates", account.duplicates, "here before, not sent again"),
        ("stored", account.stored, "said the archive, instance by instance"),
        ("verified", verified(archive, study), "counted independently by QIDO-RS"),
    ):
        rows.add_row(words[0], str(words[1]), words[2])
    rows.add_row("seconds", f"{seconds:.1f}", "from the first byte sent to the last instance stored")
    return rows


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.1f} MB"
