"""docs/conformance.md says what the code says: roles, transfer syntaxes, bounds, Storage SOP classes."""

import importlib.util
import re
from pathlib import Path

import pytest
from pydicom.uid import AllTransferSyntaxes

from pipeline.config.program_tables import ProgramsTable
from pipeline.dcmtk.profile import TRANSFER_SYNTAXES
from pipeline.dcmtk.sop_classes import SHIPPED

ROOT = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("conformance_statement", ROOT / "docs/conformance_statement.py")
statement = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(statement)

TEXT = statement.PAGE.read_text(encoding="utf-8")
OPEN_NO_ASSOCIATION = {"xorriso", "dictionary"}


def test_the_page_is_as_the_code_says():
    assert statement.page(TEXT) == TEXT, "run `make reference`"
    assert set(re.findall(r"<!-- generated: (\w+) -->", TEXT)) == {
        *("roles", "transfer_syntaxes", "bounds", "sop_classes")
    }


def test_a_part_that_was_edited_is_written_anew():
    edited = TEXT.replace("| receiver | `max_pdu` | 131072 |", "| receiver | `max_pdu` | 7 |")
    assert edited != TEXT
    assert statement.page(edited) == TEXT


def test_every_program_that_opens_an_association_has_its_roles():
    assert set(ProgramsTable.model_fields) - OPEN_NO_ASSOCIATION == statement.ROLES.keys()


def test_what_is_accepted_stands_on_the_page_by_uid_and_name():
    for uid in (*TRANSFER_SYNTAXES, *SHIPPED):
        assert f"| {uid} |" in TEXT, uid
    assert not [uid for uid in TRANSFER_SYNTAXES if statement.UID(uid).name == uid], "a name for each"


@pytest.mark.parametrize("uid", [uid for uid in AllTransferSyntaxes if uid.is_compressed])
def test_no_transfer_syntax_that_is_not_accepted_is_listed(uid):
    listed = TEXT.split("### Transfer syntaxes accepted")[1].split("<!-- end -->")[0]
    assert (f"| {uid} |" in listed) is (uid in TRANSFER_SYNTAXES)
