"""Machines of a cluster: each a network namespace, a process namespace and a spool, which end all at once.

The database and the archives are reached by a bridge. A machine that is killed in silence loses its cable first,
so that nobody is told that its connections have ended, as when the power fails.
"""

import contextlib
import secrets
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from support.machine.dicom_programs import ENVIRONMENT, program, wait_until
from support.sites.cluster_site import ClusterNode
from support.sites.running_nodes import log_of
from support.sites.running_site import COMMAND

TESTS = Path(__file__).resolve().parents[2]
STUDY, ASSOCIATION = 11112, 11113  # Ports of every machine's receivers.
RECEIVERS = [
    {"name": "study", "ae_title": "STORESTOW", "port": STUDY, "quiet_seconds": 1},
    {"name": "assoc", "ae_title": "STORESTOW", "port": ASSOCIATION, "mode": "association", "quiet_seconds": 1},
]
_ESTABLISHED, _LISTEN = "01", "0A"  # States, as the kernel writes them.
# What `storestow` does until it reaches a point: then it leaves a mark, and that thread stands still.
_UNTIL = """
import sys
tests, point, count, mark = sys.argv[1:5]
del sys.argv[1:5]
sys.path.insert(0, tests)
import pathlib, time
from support.crash.killed_at import act_at, record
from pipeline.commands import cli
def stand():
    pathlib.Path(mark).touch()
    time.sleep(3600)
act_at(point, int(count), stand) if point else record(mark)
cli.main()
"""


class Network:
    """A bridge; `address` is where machines reach what runs outside of them."""

    def __init__(self) -> None:
        self.name = f"k{secrets.token_hex(4)}"
        self._prefix = f"10.{200 + secrets.randbelow(50)}.{secrets.randbelow(250)}"
        self.address = f"{self._prefix}.1"
        self._machines = 0

    def next_address(self) -> str:
        self._machines += 1
        return f"{self._prefix}.{1 + self._machines}"

    def __enter__(self) -> Self:
        ip("link", "add", self.name, "type", "bridge")
        ip("addr", "add", f"{self.address}/24", "dev", self.name)
        ip("link", "set", self.name, "up")
        return self

    def __exit__(self, *_: object) -> None:
        ip("link", "del", self.name)


def ip(*words: str) -> str:
    done = subprocess.run([program("ip"), *words], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, f"ip {words}: {done.stderr}"
    return done.stdout


@dataclass
class Machine:
    """One machine that runs the worker and the receivers of `node`; `kills` are the moments of its deaths."""

    node: ClusterNode
    network: Network
    address: str = field(init=False)
    kills: list[float] = field(default_factory=list)
    _process: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.address = self.network.next_address()
        self._space = f"{self.network.name}-{self.node.name}"
        self._cable = f"{self.network.name}{self.node.name[:4]}"

    @property
    def mark(self) -> Path:
        """The file that is there when a command stands still at its point."""
        return self.node.file.with_name("mark")

    def start(self, point: str | None = None, *, of: str = "work", count: int = 1) -> None:
        """Start worker and receivers; with a `point` the command `of` stands still there, with "" it records."""
        self.mark.unlink(missing_ok=True)
        self._plug_in()
        commands = [["receive", str(receiver["name"])] for receiver in RECEIVERS] + [["work"]]
        lines = [self._line(words, point if words[-1] == of else None, count) for words in commands]
        script = " & ".join(lines) + " & wait $!"
        space = ["netns", "exec", self._space, program("unshare")]
        flags = ["--pid", "--fork", "--kill-child", "--mount-proc"]
        with log_of(self.node).open("ab") as log:
            self._process = subprocess.Popen(
                [program("ip"), *space, *flags, "/bin/sh", "-c", script],
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _line(self, words: list[str], point: str | None, count: int) -> str:
        argv = list(COMMAND)
        if point is not None:
            argv = [sys.executable, "-I", "-c", _UNTIL, str(TESTS), point, str(count), str(self.mark)]
        argv += ["--site", str(self.node.file), *words]
        return " ".join(f"'{word}'" for word in argv)

    def _plug_in(self) -> None:
        inside = ["netns", "exec", self._space, program("ip")]
        ip("netns", "add", self._space)
        ip("link", "add", self._cable, "type", "veth", "peer", "name", "eth0", "netns", self._space)
        ip("link", "set", self._cable, "master", self.network.name, "up")
        last = int(self.address.rpartition(".")[2])
        ip(*inside, "link", "set", "eth0", "address", f"02:00:00:00:00:{last:02x}")  # The same after each start.
        ip(*inside, "addr", "add", f"{self.address}/24", "dev", "eth0")
        for name in ("lo", "eth0"):
            ip(*inside, "link", "set", name, "up")

    @property
    def is_up(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def listens(self) -> bool:
        """Say whether both receivers listen."""
        return {STUDY, ASSOCIATION} <= {local for local, _, state in self._sockets() if state == _LISTEN}

    def connections_to(self, port: int) -> set[tuple[str, int]]:
        """Return address and port of the machine's ends of connections to a port outside."""
        sockets = self._sockets()
        return {
            (self.address, local) for local, remote, state in sockets if (remote, state) == (port, _ESTABLISHED)
        }

    def _sockets(self) -> list[tuple[int, int, str]]:
        """Return the local port, the remote port and the state of each of the machine's sockets."""
        process = self._process
        if process is None:
            return []
        tables = (Path(f"/proc/{process.pid}/net/{name}") for name in ("tcp", "tcp6"))
        with contextlib.suppress(OSError):
            lines = [line.split() for table in tables for line in table.read_text().splitlines()[1:]]
            return [(_port(local), _port(remote), state) for _, local, remote, state, *_ in lines]
        return []

    def kill(self, *, in_silence: bool = False) -> float:
        """Kill every process of the machine at once; return the moment."""
        assert self._process is not None
        assert self._process.poll() is None, f"it has ended by itself: {log_of(self.node).read_text()[-3000:]}"
        moment = time.time()
        if in_silence:
            ip("link", "del", self._cable)
        self._end()
        self.kills.append(moment)
        return moment

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None
        wait_until(lambda: not ip("netns", "pids", self._space).split(), what="every process has ended")
        with contextlib.suppress(AssertionError):  # It is gone where the cable was pulled.
            ip("link", "del", self._cable)
        ip("netns", "del", self._space)

    def close(self) -> None:
        self._end()


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
