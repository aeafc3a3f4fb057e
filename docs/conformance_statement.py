"""Write the generated parts of docs/conformance.md anew from the code: `make reference`.

A part stands between `<!-- generated: NAME -->` and `<!-- end -->`: roles, transfer syntaxes, bounds and
time-outs, Storage SOP classes. Everything else on the page is written by hand.
"""

import re
import sys
from datetime import timedelta
from pathlib import Path

from pydantic import BaseModel
from pydicom.uid import UID

from pipeline.config.order_tables import PacsTable, ShimTable
from pipeline.config.program_tables import ProgramsTable
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.dcmtk.profile import TRANSFER_SYNTAXES
from pipeline.dcmtk.sop_classes import SHIPPED, VERIFICATION
from pipeline.destinations import model_of

PAGE = Path(__file__).with_name("conformance.md")
_PART = re.compile(r"(<!-- generated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
# What each external program is on the network: SOP class or service, UID, role. Programs that are not named here
# open no association.
ROLES = {
    "storescp": (("Verification", VERIFICATION, "SCP"), ("Storage", "section 9", "SCP")),
    "echoscu": (("Verification", VERIFICATION, "SCU"),),
    "findscu": (("Study Root Query/Retrieve - FIND", "1.2.840.10008.5.1.4.1.2.2.1", "SCU"),),
    "movescu": (("Study Root Query/Retrieve - MOVE", "1.2.840.10008.5.1.4.1.2.2.2", "SCU"),),
    "getscu": (("Study Root Query/Retrieve - GET", "1.2.840.10008.5.1.4.1.2.2.3", "SCU"),),
}
_BOUNDS: tuple[tuple[str, type[BaseModel], tuple[str, ...]], ...] = (
    (
        "receiver",
        ReceiverTable,
        ("max_pdu", "max_associations", "max_associations_per_peer", "idle_timeout", "association_timeout"),
    ),
    (
        "relay",
        model_of("cstore"),
        ("slots", "max_pdu", "connect_timeout", "associate_timeout", "response_timeout"),
    ),
    ("order", PacsTable, ("moves_at_once", "connect_timeout", "answer_timeout")),
    ("order", ShimTable, ("max_concurrent", "move_timeout", "order_timeout")),
    (
        "archive client",
        model_of("stow"),
        ("connections", "batch_bytes", "connect_timeout", "read_timeout", "answer_timeout"),
    ),
)


def roles() -> list[str]:
    """Return the roles of the programs that a site may name in [programs], and of our own requestor."""
    rows = ["| Made by | Service | SOP class | Role |", "|---|---|---|---|"]
    for program in ProgramsTable.model_fields:
        rows += [f"| `{program}` | {name} | {uid} | {role} |" for name, uid, role in ROLES.get(program, ())]
    rows += ["| storestow | Storage | every one that is to be sent | SCU |"]
    return [*rows, f"| storestow | Verification | {VERIFICATION} | SCU |"]


def transfer_syntaxes() -> list[str]:
    """Return the accepted transfer syntaxes in the order in which one of several is taken."""
    rows = [f"| {number} | {uid} | {UID(uid).name} |" for number, uid in enumerate(TRANSFER_SYNTAXES, 1)]
    return ["| Taken | UID | Transfer syntax |", "|---|---|---|", *rows]


def bounds() -> list[str]:
    """Return bounds and time-outs as the models of site.toml have them by default."""
    rows = ["| Application entity | Key | Default |", "|---|---|---|"]
    for entity, model, keys in _BOUNDS:
        rows += [f"| {entity} | `{key}` | {_shown(model.model_fields[key].default)} |" for key in keys]
    return rows


def sop_classes() -> list[str]:
    """Return the Storage SOP classes that study mode accepts."""
    rows = [f"| {uid} | {name} |" for uid, name in SHIPPED.items() if uid != VERIFICATION]
    return ["| UID | Name |", "|---|---|", *rows]


def _shown(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g} s"
    return str(value)


def page(text: str) -> str:
    """Return the page with its generated parts as the code has them now; raises KeyError for an unknown part."""
    parts = {
        "roles": roles,
        "transfer_syntaxes": transfer_syntaxes,
        "bounds": bounds,
        "sop_classes": sop_classes,
    }
    return _PART.sub(lambda match: "\n".join((match[1].rstrip(), "", *parts[match[2]](), "", match[3])), text)


def main() -> int:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
