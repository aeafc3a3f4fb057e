"""Which DCMTK is run where several programs bear the name: the system's, never a script of an environment."""

import os
import sys
from pathlib import Path

import pytest
from support.machine.dicom_programs import program as real

from pipeline import dcmtk
from pipeline.config.program_tables import ProgramsTable

pytestmark = pytest.mark.programs


def test_a_script_of_the_name_earlier_on_the_path_is_passed_over(tmp_path, monkeypatch):
    trap = tmp_path / "bin/storescp"
    trap.parent.mkdir()
    trap.write_text("#!/bin/sh\necho '$dcmtk: storescp v3.9.9 2030-01-01 $'\n")
    trap.chmod(0o755)
    monkeypatch.setenv("PATH", f"{trap.parent}{os.pathsep}{Path(sys.executable).parent}{os.pathsep}/usr/bin")
    assert str(dcmtk.program(ProgramsTable(), "storescp")) == real("storescp")


def test_the_environment_of_python_is_not_the_system():
    assert dcmtk.program(ProgramsTable(), "storescp").parent != Path(sys.executable).parent
