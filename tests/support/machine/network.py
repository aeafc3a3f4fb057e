"""Machines with a network of their own, whose packets to each other a test can drop; only root may make them.

Each machine is a network namespace behind one router, another namespace. What is cut off hears nothing: the router
drops the packets of both directions, and answers none of them.
"""

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.machine.dicom_programs import program

_NAMESPACES = Path("/run/netns")
_NEW_NETWORK = 0x40000000  # CLONE_NEWNET of <sched.h>


@dataclass(frozen=True)
class Machine:
    """One machine: its namespace, and the address at which the others reach it."""

    namespace: str
    address: str

    def inside(self, *words: str) -> list[str]:
        """Return the command line `words` as one that runs on this machine."""
        return [program("nsenter"), f"--net={_NAMESPACES / self.namespace}", *words]

    def listener(self) -> socket.socket:
        """Return a socket that listens on this machine and belongs to the calling process."""
        found: list[socket.socket] = []

        def listen() -> None:
            with (_NAMESPACES / self.namespace).open() as there:
                assert ctypes.CDLL(None, use_errno=True).setns(there.fileno(), _NEW_NETWORK) == 0, os.strerror(
                    ctypes.get_errno()
                )
            found.append(socket.create_server((self.address, 0)))

        thread = threading.Thread(target=listen)  # A namespace is a thread's own: this one ends there.
        thread.start()
        thread.join()
        return found[0]


class Network:
    """The router, and what it connects."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._router = f"{name}-router"
        self._made: list[str] = []
        self._make(self._router)
        self._at(self._router, "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")

    def _make(self, namespace: str) -> None:
        _run("ip", "netns", "add", namespace)
        self._made.append(namespace)
        self._at(namespace, "ip", "link", "set", "lo", "up")

    def machine(self, name: str) -> Machine:
        """Add a machine; it reaches all others."""
        number = len(self._made)
        namespace, ours, theirs = f"{self._name}-{name}", f"192.0.2.{4 * number + 1}", f"192.0.2.{4 * number + 2}"
        self._make(namespace)
        link = f"to-{name}"
        peer = ("peer", "name", "net0", "netns", namespace)
        self._at(self._router, "ip", "link", "add", link, "type", "veth", *peer)
        self._at(self._router, "ip", "addr", "add", f"{ours}/30", "dev", link)
        self._at(self._router, "ip", "link", "set", link, "up")
        self._at(namespace, "ip", "addr", "add", f"{theirs}/30", "dev", "net0")
        self._at(namespace, "ip", "link", "set", "net0", "up")
        self._at(namespace, "ip", "route", "add", "default", "via", ours)
        return Machine(namespace, theirs)

    @contextlib.contextmanager
    def cut(self, one: Machine, other: Machine) -> Iterator[None]:
        """Drop every packet between two machines during the block."""
        rules = [("from", one.address, "to", other.address), ("from", other.address, "to", one.address)]
        for rule in rules:
            self._at(self._router, "ip", "rule", "add", *rule, "blackhole")
        try:
            yield
        finally:
            for rule in rules:
                self._at(self._router, "ip", "rule", "del", *rule, "blackhole")

    def close(self) -> None:
        for namespace in reversed(self._made):
            _run("ip", "netns", "del", namespace)

    def _at(self, namespace: str, *words: str) -> None:
        _run("ip", "netns", "exec", namespace, *words)


def _run(*words: str) -> None:
    done = subprocess.run([program(words[0]), *words[1:]], capture_output=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr.decode()}"


@contextlib.contextmanager
def network() -> Iterator[Network]:
    """Make a network; when the block ends, nothing of it is left."""
    found = Network(f"storestow-{uuid.uuid4().hex[:6]}")
    try:
        yield found
    finally:
        found.close()
