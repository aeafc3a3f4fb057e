"""`storestow explain FILE`: what would happen to a file, where it would go, and why; nothing is kept or sent."""

import tempfile
from collections.abc import Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.coercions import rules_of
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.config.route_tables import RouteFacts
from pipeline.errors import Permanent, Usage
from pipeline.line import identify
from pipeline.line.identify import found_in
from pipeline.line.prepare import Prepared, PrepareTask, prepare
from pipeline.line.prepare_study import limits_of
from pipeline.model import Origin
from pipeline.processes.process_pool import PoolProcessDied, ProcessPool
from pipeline.site.open_site import mapping_of
from pipeline.site.routing import Routed, Routing
from pipeline.site.settings import Settings


def explain(
    file: Path, settings: Settings, receiver: ReceiverTable, calling: str | None, peer: str | None
) -> dict[str, Any]:
    """Return what identification, coercion and encoding would make of a file received by `receiver`.

    Raises:
        Usage: the file is missing or not readable.
    """
    if not file.is_file():
        raise Usage(f"{file} is no file")
    with closing(ProcessPool(1)) as pool:
        return _explained(file, settings, receiver, (calling, peer), pool)


def _explained(
    file: Path,
    settings: Settings,
    receiver: ReceiverTable,
    sender: tuple[str | None, str | None],
    pool: ProcessPool,
) -> dict[str, Any]:
    calling, peer = sender
    (found,) = found_in([identify.IdentifyTask(file, None)], pool)
    answer: dict[str, Any] = {
        "file": str(file),
        "receiver": receiver.name,
        "received_sha256": found.received_sha256,
        "transfer_syntax_received": found.transfer_syntax_uid,
        "sop_class_uid": found.sop_class_uid,
        "modality": found.modality,
        "accession_number": found.accession_number,
    }
    if found.key:
        answer["study_instance_uid"] = found.key.study_instance_uid
        answer["series_instance_uid"] = found.key.series_instance_uid
        answer["sop_instance_uid"] = found.key.sop_instance_uid
    if found.problem or found.key is None:
        return {**answer, "outcome": "quarantined", "reason": found.problem}
    calling_ae_title = calling or found.source_ae_title
    answer["calling_ae_title"] = calling_ae_title
    answer["institution"] = mapping_of(settings).of(calling_ae_title, peer, receiver.name)
    facts = RouteFacts(
        receiver.name,
        calling_ae_title,
        receiver.ae_title,
        peer,
        found.modality,
        found.sop_class_uid,
        found.body_part,
    )
    ways = Routing(settings, receiver, [facts]).of(facts)
    with tempfile.TemporaryDirectory() as scratch:
        task = PrepareTask(
            instance=0,
            source=file,
            received_sha256=found.received_sha256,
            key=found.key,
            origin=Origin(receiver.name, calling_ae_title, receiver.ae_title, peer, datetime.now(UTC)),
            rules=rules_of(settings) if receiver.coerce else (),
            encodings=tuple(sorted({way.encode for way in ways})),
            target=Path(scratch) / "explained",
            scratch=Path(scratch),
        )
        ((_, prepared),) = pool.each(prepare, [task], limits_of)
    if isinstance(prepared, Permanent | PoolProcessDied):
        return {**answer, "outcome": "quarantined", "reason": str(prepared)}
    if isinstance(prepared, Exception):
        raise prepared
    return {**answer, **_outcome(prepared), "destinations": _ways(prepared, settings, ways)}


def _outcome(prepared: Prepared) -> dict[str, Any]:
    is_encoded = prepared.encoded_length is not None
    return {"outcome": "encoded" if is_encoded else "passed", "reason": None, "changes": prepared.account}


def _ways(prepared: Prepared, settings: Settings, ways: Sequence[Routed]) -> list[dict[str, Any]]:
    by_encoding = {output.encoding: output for output in prepared.outputs}
    return [
        {
            "destination": way.destination,
            "kind": settings.destination_named(way.destination).kind,
            "by": way.by,
            "transfer_syntax_sent": output.transfer_syntax_uid,
            "size": output.size,
            "not_encoded": output.reason,
        }
        for way in ways
        for output in [by_encoding[way.encode]]
    ]
