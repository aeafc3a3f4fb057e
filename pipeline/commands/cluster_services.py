"""The services of one site on two machines: a cluster manager alone starts and stops them (docs/pair.md)."""

import re
from pathlib import Path

from pipeline.commands.services import SYSUSERS, TMPFILES, UNITS, ServicePlan
from pipeline.errors import Usage
from pipeline.site.settings import Settings

_BEGINNING = re.compile(r"\A(?:#.*\n)*")
_LEFT_OUT = re.compile(
    r"(?m)^(?:# A wrong configuration or command line .*"
    r"|(?:Restart|RestartSec|RestartPreventExitStatus|PartOf)=.*)\n|\[Install\]\n(?:.*\n)*"
)
_USER = 10104  # The number of the user; the container image has the same.
_HEAD = """\
# A part of a site that two machines have: the cluster manager starts it on the one that has the disk.
# The other one's folder is empty, and images that were received into it would be found by nobody.
"""


def for_cluster(plan: ServicePlan, settings: Settings, disk: Path) -> ServicePlan:
    """Return the plan for a cluster manager, which starts the units; the disk is mounted at `disk`.

    Raises Usage if the spool is not on the disk, or a timer starts the worker: cluster managers start no timers.
    """
    if not settings.site.spool.is_relative_to(disk):
        raise Usage(
            f"--cluster {disk}: the spool {settings.site.spool} is not below it; name where the disk is mounted"
        )
    if any(path.suffix == ".timer" for path in plan.files):
        raise Usage(
            '--cluster: with hook = "process-study" a timer starts the worker; use hook = "study-complete"'
        )
    files = {
        path: _unit(data.decode(), disk).encode()
        for path, data in plan.files.items()
        if path.parent == UNITS and path.suffix == ".service"
    }
    # The disk knows its owner by number, which must be the same on both machines.
    files[SYSUSERS] = plan.files[SYSUSERS].replace(b"u storestow -", b"u storestow %d" % _USER)
    started = next(command for command in plan.commands if command.startswith("systemctl enable"))
    commands = [
        "systemd-sysusers",
        # The folder below the mount belongs to root: what starts without the disk can write nothing there. Where
        # the disk is mounted the command would close the disk's own root, and nothing could be read of it.
        f"ln -sf /dev/null {TMPFILES}",
        f"mountpoint -q {disk} || install -d -o root -g root -m 0000 {disk}",
        "systemctl daemon-reload",
        *(_resource(word) for word in started.split() if word.endswith(".service")),
    ]
    return ServicePlan(files, commands)


def _unit(text: str, disk: Path) -> str:
    """Return a unit that never starts by itself nor without the disk, and that a failure ends at once."""
    text = _BEGINNING.sub(_HEAD, _LEFT_OUT.sub("", text), count=1).rstrip("\n") + "\n"
    text = text.replace("[Unit]\n", f"[Unit]\nAssertPathIsMountPoint={disk}\n", 1)
    return text.replace("[Service]\n", "[Service]\nRestart=no\n", 1)


def _resource(unit: str) -> str:
    """Return the command that makes a resource of a unit: in the group, started after what was made before it."""
    name = unit.removesuffix(".service")
    bounds = "op start timeout=900s op stop timeout=90s op monitor interval=10s timeout=60s"
    return f"pcs resource create {name.replace('@', '-')} systemd:{name} {bounds} --group storestow"
