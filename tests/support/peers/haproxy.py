"""The real HAProxy with docs/haproxy.cfg, addresses and ports replaced; it tells what it knows of the nodes."""

import contextlib
import csv
import re
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.machine.dicom_programs import free_port, listens, program, running, wait_until

CONFIGURATION = Path(__file__).resolve().parents[3] / "docs/haproxy.cfg"


@dataclass(frozen=True)
class Balancer:
    """HAProxy in front: its port for DICOM, its address for HTTP, and its port for questions."""

    port: int
    url: str
    asked_at: int

    def sends_to(self, number: int) -> bool:
        """Say whether it sends modalities and orders to a node, the first of which is 1."""
        return {row["status"] for row in self._rows(number)} == {"UP"}

    def turns_away(self, number: int) -> bool:
        """Say whether it sends nothing new to a node."""
        return {row["status"] for row in self._rows(number)} == {"DOWN"}

    def has_left(self, number: int) -> bool:
        """Say whether it sends nothing new to a node, and no connection through it to the node is left."""
        return self.turns_away(number) and {row["scur"] for row in self._rows(number)} == {"0"}

    def _rows(self, number: int) -> list[dict[str, str]]:
        with socket.create_connection(("127.0.0.1", self.asked_at), timeout=20) as question:
            question.sendall(b"show stat\n")
            answer = question.makefile(encoding="ascii").read()
        rows = csv.DictReader(answer.removeprefix("# ").splitlines())
        return [row for row in rows if row["svname"] == f"gateway-{number}"]


@contextlib.contextmanager
def haproxy(folder: Path, nodes: Sequence[tuple[int, int]], dicom: int | None = None) -> Iterator[Balancer]:
    """Run HAProxy in front of two nodes or more, each with a port for DICOM and one for HTTP."""
    folder.mkdir()
    dicom, http, asked_at = dicom or free_port(), free_port(), free_port()
    text = CONFIGURATION.read_text()
    for number in range(3, len(nodes) + 1):  # Each line of the second node is written for the others, too.
        text = re.sub(
            r"^( *server gateway-)2(.*192\.0\.2\.1)2(.*)$",
            rf"\g<0>\n\g<1>{number}\g<2>{number}\g<3>",
            text,
            flags=re.MULTILINE,
        )
    for number, (its_dicom, its_http) in enumerate(nodes, 1):
        for pattern, replacement in [
            (rf"192\.0\.2\.1{number}:11112 check port 8090", f"127.0.0.1:{its_dicom} check port {its_http}"),
            (rf"192\.0\.2\.1{number}:11112", f"127.0.0.1:{its_dicom}"),
            (rf"192\.0\.2\.1{number}:8090", f"127.0.0.1:{its_http}"),
        ]:
            text, count = re.subn(pattern, replacement, text)
            assert count, f"{pattern} is not in docs/haproxy.cfg"
    for pattern, replacement in (
        (r"bind :11112", f"bind 127.0.0.1:{dicom}"),
        (r"bind :8090", f"bind 127.0.0.1:{http}"),
        (r"maxconn 4096", f"\\g<0>\n    stats socket ipv4@127.0.0.1:{asked_at}"),
    ):
        text, count = re.subn(pattern, replacement, text)
        assert count == 1, pattern
    file = folder / "haproxy.cfg"
    file.write_text(text)
    argv = [program("haproxy"), "-db", "-f", file]
    checked = subprocess.run([*argv, "-c"], capture_output=True, text=True, timeout=30, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "[WARNING]" not in checked.stderr, checked.stderr
    log = folder / "log"
    with running(argv, log=log) as process:
        wait_until(lambda: process.poll() is not None or (listens(dicom) and listens(http)), what="haproxy")
        assert process.poll() is None, log.read_text()
        yield Balancer(dicom, f"http://127.0.0.1:{http}", asked_at)
