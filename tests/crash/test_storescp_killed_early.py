"""storescp is killed before it has opened its port: it is started again, and nobody calls it misconfigured."""

import pytest
from support.machine.dicom_programs import dcmsend, free_port, program, running
from support.sites.line_site import instance
from support.sites.running_site import COMMAND, write_site

from pipeline.spool.spool import Spool

pytestmark = pytest.mark.programs


def test_a_storescp_killed_at_its_first_start_is_started_again(tmp_path):
    real, deadly, port = program("storescp"), tmp_path / "deadly", free_port()
    wrapper = tmp_path / "storescp"
    wrapper.write_text(
        f'#!/bin/sh\ncase "$*" in *-xcs*) mv {deadly} {deadly}.gone 2>/dev/null && kill -9 $$;; esac\n'
        f'exec {real} "$@"\n'
    )
    wrapper.chmod(0o755)
    deadly.touch()
    receiver = {"name": "study", "ae_title": "STORESTOW", "mode": "study", "port": port, "quiet_seconds": 1}
    file = write_site(tmp_path, receivers=[receiver])
    file.write_text(file.read_text().replace(str(real), str(wrapper)))
    Spool(tmp_path / "spool").prepare()
    with running([*COMMAND, "--site", file, "receive", "study"], log=tmp_path / "log", port=port) as process:
        assert process.poll() is None
        assert not deadly.exists()
        assert dcmsend(port, instance(tmp_path)).acknowledged == 1
