"""What the programs we start see of us: an allow-listed environment, no descriptor unasked, a umask of our own."""

import os
import sys
from pathlib import Path

import pytest
from pynetdicom import AE
from support.machine.dicom_programs import ENVIRONMENT, free_port, running, wait_until
from support.sites.receiving import CT, Reception, end_storescps, write_site

from pipeline.spool.spool import Spool

pytestmark = [
    pytest.mark.programs,
    pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux only"),
]

ALLOWED = {"PATH", "LANG", "TZ", "TCP_NODELAY", "DCMDICTPATH", "OPENSSL_CONF"}


@pytest.mark.parametrize("mode", ["study", "association"])
def test_a_storescp_gets_an_environment_of_ours_and_nothing_open_it_does_not_need(tmp_path, mode):
    dictionary = str(next(Path("/usr/share").glob("libdcmtk*/dicom.dic")))
    port, log = free_port(), tmp_path / "log"
    site = write_site(tmp_path, mode, port)
    site.write_text(site.read_text().replace("[programs]", f'[programs]\ndictionary = "{dictionary}"'))
    secrets = {"STORESTOW_API_KEY": "hush", "LD_PRELOAD": "", "DCMTK_LOG": "x", "TZ": "UTC"}
    with (
        (tmp_path / "not for you").open("wb") as ours,
        running(
            [sys.executable, "-I", "-m", "pipeline", "--site", site, "receive", "r"],
            log=log,
            env={**ENVIRONMENT, **secrets},
        ) as process,
    ):
        os.set_inheritable(ours.fileno(), True)
        wait_until(lambda: "receiver-started" in log.read_text(), what="receiver-started")
        r = Reception(process, Spool(tmp_path / "spool"), port, log, site)
        try:
            ae = AE(ae_title="CT")
            ae.add_requested_context(CT)
            association = ae.associate("127.0.0.1", port)
            child = Path("/proc") / str(wait_until(r.storescps, what="a storescp")[0].pid)
            seen = dict(one.split("=", 1) for one in (child / "environ").read_text().split("\0") if one)
            status = dict(
                line.split(":\t", 1) for line in (child / "status").read_text().splitlines() if ":\t" in line
            )
            opened = {int(fd.name): str(fd.readlink()) for fd in (child / "fd").iterdir()}
            association.abort()
        finally:
            end_storescps(r.spool)
    assert set(seen) <= ALLOWED
    assert (seen["LANG"], seen["TCP_NODELAY"], seen["TZ"]) == ("C.UTF-8", "1", "UTC")
    assert seen["DCMDICTPATH"] == dictionary
    assert status["Umask"] == "0027"
    files = {name for name in opened.values() if name.startswith("/") and name != "/dev/null"}
    own = (".lock", "(deleted)", "/run/r.objects.log")  # the last is where it says what it thinks of each object
    assert {name for name in files if not name.endswith(own)} == set(), opened
    assert f"{tmp_path}/spool/run/r.lock" in files
