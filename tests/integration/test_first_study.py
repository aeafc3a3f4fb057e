"""docs/first-study.md, typed as it stands, leads to a site that runs, and to its first study in the archive."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import requests
from support.machine.dicom_programs import ENVIRONMENT, free_port, listens, orthanc, running, wait_until
from support.peers.archives import study

pytestmark = pytest.mark.programs

TEXT = (Path(__file__).resolve().parents[2] / "docs/first-study.md").read_text()


def typed(heading: str) -> list[str]:
    """Return the shell blocks of a section, without the comments."""
    section = TEXT.split(f"\n## {heading}", maxsplit=1)[1].split("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+#.*", "", block) for block in blocks]


def test_the_page_leads_to_the_first_study_in_the_archive(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/storestow").write_text(f'#!/bin/sh\nexec {sys.executable} -I -m pipeline "$@"\n')
    (tmp_path / "bin/storestow").chmod(0o755)
    environment = {**os.environ, **ENVIRONMENT, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    ports = {"11112": free_port(), "10104": free_port(), "8090": free_port()}
    port, made = ports["11112"], study(tmp_path / "study", "A1")

    def run(script: str) -> str:
        placed = {"ACCESSION": "A1", "FOLDER": str(tmp_path / "study"), **ports, **orthancs}
        for word, meant in placed.items():
            script = script.replace(word, str(meant))
        done = subprocess.run(
            ["sh", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def up(script: str, port: int):
        argv = ["sh", "-c", f"exec {script.strip()}"]
        return running(argv, log=tmp_path / "up.log", port=port, cwd=tmp_path, env=environment)

    modalities = {"storestow": ["CDRECORD", "127.0.0.1", ports["10104"]]}
    with orthanc(tmp_path / "archive", DicomModalities=modalities) as archive:
        orthancs = {"http://127.0.0.1:8042": archive.rest, ":4242": f":{archive.dicom_port}"}
        [init] = typed("2. Write a site")
        said = run(f"{init.rstrip()} --port {port}")
        assert "now run:\n  storestow check\n  storestow up" in said
        [check] = typed("3. Check it")
        run(check)
        start, send = typed("4. Run it")
        with up(start, port):
            run(send)

            def has_arrived() -> bool:
                return len(requests.get(f"{archive.rest}/instances", timeout=10).json()) == len(made)

            wait_until(has_arrived, seconds=90, what="the study")
            wait_until(lambda: " verified " in (tmp_path / "up.log").read_text(), seconds=60, what="`verified`")
            [look] = typed("5. See what became of it")
            seen = run(look)
            assert "archive" in seen
            assert f"study {_study_uid(made)}" in seen
        both, start, link = typed("6. The first disc")
        run(f"{both.rstrip()} --port {port}")
        site = tmp_path / "both.toml"
        site.write_text(site.read_text().replace("port = 8090", f"port = {ports['8090']}"))
        with up(start, port):
            log = tmp_path / "up.log"
            wait_until(lambda: listens(ports["8090"]), seconds=90, what="HTTP")
            wait_until(lambda: log.read_text().count("worker-started") == 2, seconds=60, what="the worker")
            seen = run(link)
        assert "nothing wrong was found" in seen
        assert "done" in seen


def _study_uid(files: list[Path]) -> str:
    import pydicom

    return str(pydicom.dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)
