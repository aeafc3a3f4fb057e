"""docs/first-study.md, typed as it stands, leads to a site that runs, and to its first study in the archive."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
import requests
from support.machine.dicom_programs import ENVIRONMENT, free_port, listens, orthanc, running, wait_until

pytestmark = pytest.mark.programs

TEXT = (Path(__file__).resolve().parents[2] / "docs/first-study.md").read_text()


def typed(heading: str) -> list[str]:
    """Return the shell blocks of a section, without the comments."""
    section = TEXT.split(f"\n## {heading}", maxsplit=1)[1].split("\n## ")[0]
    blocks = re.findall(r"^```\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    return [re.sub(r"\s+#.*", "", block) for block in blocks]


def test_the_page_leads_to_the_first_study_in_the_archive_and_to_the_first_disc(tmp_path):
    (tmp_path / "bin").mkdir()
    for name, isolated in (("storestow", "-I -m pipeline"), ("python3", "")):
        (tmp_path / "bin" / name).write_text(f'#!/bin/sh\nexec {sys.executable} {isolated} "$@"\n')
        (tmp_path / "bin" / name).chmod(0o755)
    environment = {**os.environ, **ENVIRONMENT, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    ports = {"11112": free_port(), "10104": free_port(), "8090": free_port()}
    port, log = ports["11112"], tmp_path / "up.log"

    def run(script: str) -> str:
        for word, meant in {**ports, **orthancs}.items():
            script = script.replace(word, str(meant))
        done = subprocess.run(
            ["sh", "-eu", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{script}\n{done.stdout}{done.stderr}"
        return done.stdout

    def up(script: str, port: int):
        argv = ["sh", "-c", f"exec {script.strip()}"]
        return running(argv, log=log, port=port, cwd=tmp_path, env=environment)

    with orthanc(tmp_path / "archive") as archive:
        orthancs = {"http://127.0.0.1:8042": archive.rest, ":4242": f":{archive.dicom_port}"}
        _install, is_there = typed("2. An archive")
        assert run(is_there).split() == ["[]"]
        [init] = typed("3. Write a site")
        said = run(f"{init.rstrip()} --port {port}")
        assert "now run:\n  storestow check\n  storestow up" in said
        [check] = typed("4. Check it")
        run(check)
        start, make, send = typed("5. Run it")
        run(make)
        with up(start, port):
            run(send)
            wait_until(lambda: has_arrived(archive.rest), seconds=90, what="the study")
            wait_until(lambda: " verified " in log.read_text(), seconds=60, what="`verified`")
            [look] = typed("6. See what became of it")
            seen = run(look)
            assert "archive" in seen
            assert f"study {study_uid(tmp_path / 'study')}" in seen
            assert "from CT1" in seen
        knows, both, start, link = typed("7. The first disc")
        run(knows)
        run(f"{both.rstrip()} --port {port}")
        site = tmp_path / "both.toml"
        site.write_text(site.read_text().replace("port = 8090", f"port = {ports['8090']}"))
        with up(start, port):
            wait_until(lambda: listens(ports["8090"]), seconds=90, what="HTTP")
            wait_until(lambda: log.read_text().count("worker-started") == 2, seconds=60, what="the worker")
            seen = run(link)
        assert "nothing wrong was found" in seen
        assert "done" in seen


def has_arrived(archive: str) -> bool:
    return len(requests.get(f"{archive}/instances", timeout=10).json()) == 1


def study_uid(folder: Path) -> str:
    [file] = folder.glob("*.dcm")
    return str(pydicom.dcmread(file, stop_before_pixels=True).StudyInstanceUID)
