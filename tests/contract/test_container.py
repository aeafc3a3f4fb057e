"""The container files say what the project says; no container engine runs them here, so they are read closely."""

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from pipeline.commands.cli import app
from pipeline.site.settings import load

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = (ROOT / "docker/compose.yaml").read_text()
INSTRUCTIONS = re.findall(r"^([A-Z]+) (.+(?:\\\n.+)*)", re.sub(r"\\\n\s*", "", DOCKERFILE), re.MULTILINE)
KNOWN = {"FROM", "SHELL", "RUN", "WORKDIR", "COPY", "ENV", "USER", "VOLUME", "EXPOSE", "ENTRYPOINT", "CMD"}


def of(word: str) -> list[str]:
    return [text for instruction, text in INSTRUCTIONS if instruction == word]


def test_every_line_is_an_instruction_and_what_is_copied_is_there_and_not_ignored():
    lines = [line for line in re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines() if line and not line.startswith("#")]
    assert len(lines) == len(INSTRUCTIONS)
    assert {instruction for instruction, _ in INSTRUCTIONS} <= KNOWN
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for text in of("COPY"):
        *sources, _ = shlex.split(text)
        for source in sources if not sources[0].startswith("--from") else ():
            assert (ROOT / source).exists(), source
            assert source in let_in, source


def test_the_image_is_pinned_small_and_runs_as_nobody_special():
    assert all(re.fullmatch(r"debian:\d+-slim( AS \w+)?", text) for text in of("FROM"))
    for text in of("RUN"):
        if "apt-get install" in text:
            assert "--no-install-recommends" in text
            assert text.startswith("apt-get update")
            assert "rm -rf /var/lib/apt/lists/*" in text
        assert "sudo" not in text
    assert of("USER") == ["10104:10104"]
    assert "--uid 10104 --gid 10104" in DOCKERFILE
    order = [instruction for instruction, _ in INSTRUCTIONS]
    assert order.index("USER") < order.index("ENTRYPOINT")
    assert "--require-hashes --requirement requirements.lock" in DOCKERFILE


@pytest.mark.parametrize("words", re.findall(r"command: \[(.+)\]", COMPOSE))
def test_each_role_is_a_command_and_each_receiver_one_of_its_site(words):
    command, *names = words.split(", ")
    assert command in get_command(app).commands
    settings = load(ROOT / "docker/site.toml")
    for name in names:
        settings.receiver_named(name)


def test_the_site_of_the_containers_fits_the_ports_and_folders_they_open():
    settings = load(ROOT / "docker/site.toml")
    exposed = set(of("EXPOSE")[0].split())
    assert {str(receiver.port) for receiver in settings.receiver} | {str(settings.shim.port)} == exposed
    assert f"- spool:{settings.site.spool}" in COMPOSE
    assert f"- discs:{settings.destination_named('disc').folder}" in COMPOSE
    assert f"{settings.receiver_named('orders').port}]" in COMPOSE
    opened = re.findall(r'ports: \["(.+)"\]', COMPOSE)
    assert [port for port in opened if not port.startswith("127.0.0.1:")] == ["11112:11112"]
