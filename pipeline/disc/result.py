"""The result of making a disc, as the `.json` beside it has it, without the patient's name."""

from typing import Any

from pipeline import __version__
from pipeline.disc.model import Disc, InstanceOnDisc, LeftOut


def as_json(disc: Disc, name: str) -> dict[str, Any]:
    """Return the result of a disc named `name`; docs/disc.md explains each key."""
    return {
        "disc": name,
        "size": disc.size,
        "sha256": disc.sha256,
        "volume_id": disc.volume_id,
        "medium": disc.medium.name,
        "made_at": disc.made_at.isoformat(timespec="seconds"),
        "made_by": f"storestow {__version__}",
        "studies": [
            {
                "study_instance_uid": study.study_instance_uid,
                "accession_number": study.accession_number,
                "instances": study.instances,
            }
            for study in disc.studies
        ],
        "instances": [_instance(one) for one in disc.instances],
        "left_out": [
            {"sop_instance_uid": one.sop_instance_uid, "code": one.code, "reason": one.reason}
            for one in disc.left_out
        ],
        "duplicates": disc.duplicates,
        "replaces": {"disc": disc.replaces.name or None, "volume_id": disc.replaces.volume_id}
        if disc.replaces
        else None,
    }


def _left_out(one: LeftOut) -> dict[str, Any]:
    return {"sop_instance_uid": one.sop_instance_uid, "code": one.code, "reason": one.reason}


def _instance(one: InstanceOnDisc) -> dict[str, Any]:
    return {
        "study_instance_uid": one.key.study_instance_uid,
        "series_instance_uid": one.key.series_instance_uid,
        "sop_instance_uid": one.key.sop_instance_uid,
        "path": one.path,
        "sha256": one.sha256,
        "source_sha256": one.source_sha256,
        "transfer_syntax_uid": one.transfer_syntax_uid,
        "decoded_from": one.decoded_from,
    }
