"""Further services made from shipped ones: a storescp that systemd or launchd runs itself, and a timed worker."""

import plistlib
import re
from pathlib import Path
from typing import Any

_BEGINNING = re.compile(r"\A(?:#.*\n)*")
EVERY_SECONDS = 300  # For launchd; systemd/storestow-work.timer has the same interval.


def storescp_unit(receiver_unit: str, name: str, argv: tuple[str, ...]) -> str:
    """Return the unit of an external receiver's storescp, hardened as the unit of our own receivers.

    Its hook may start a worker, which continues when this service is stopped.
    """
    head = f"# The storescp of the receiver {name}, without `storestow receive`.\n"
    text = _BEGINNING.sub(head, receiver_unit)
    text = re.sub(r"(?m)^Description=.*$", f"Description=storescp of the storestow receiver {name}", text)
    text = text.replace("DefaultInstance=modalities\n", "")
    return _started_by(text, argv, "KillMode=process\nRestartSec=1")


def work_unit(worker_unit: str) -> str:
    """Return the unit that storestow-work.timer starts: a worker that runs until nothing is due."""
    text = _BEGINNING.sub("# The worker until nothing is due, for storestow-work.timer.\n", worker_unit)
    text = text.replace("Description=storestow worker\n", "Description=storestow worker, until nothing is due\n")
    text = re.sub(r"(?m)^(?:NotifyAccess|WatchdogSec|Restart|RestartSec|RestartPreventExitStatus)=.*\n", "", text)
    text = re.sub(r"(?m)^Type=.*$", "Type=oneshot", text)
    text = re.sub(r"(?m)^(ExecStart=.* work)$", r"\1 --until-idle\nTimeoutStartSec=infinity", text)
    return re.sub(r"\[Install\]\n(?:.*\n)*", "", text)


def _started_by(unit: str, argv: tuple[str, ...], more: str) -> str:
    line = f"ExecStart={' '.join(map(_quoted, argv))}\n{more}"
    text = re.sub(r"(?m)^(?:KillMode|RestartSec)=.*\n", "", unit)
    return re.sub(r"(?m)^ExecStart=.*$", lambda _: line, text)


def _quoted(word: str) -> str:
    """Return a word as systemd reads it back: specifiers and variables are doubled (systemd.service(5))."""
    escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return '"' + escaped.replace("%", "%%").replace("$", "$$") + '"'


def storescp_job(receiver_job: dict[str, Any], name: str, argv: tuple[str, ...], logs: Path) -> tuple[str, bytes]:
    """Return label and property list of an external receiver's storescp; a worker its hook starts continues."""
    label, log = f"org.storestow.storescp.{name}", str(logs / f"storescp.{name}.log")
    about = {"Label": label, "StandardOutPath": log, "StandardErrorPath": log, "AbandonProcessGroup": True}
    return label, plistlib.dumps({**receiver_job, **about, "ProgramArguments": list(argv), "ThrottleInterval": 1})


def work_job(worker_job: dict[str, Any]) -> tuple[str, bytes]:
    """Return label and property list of the worker that launchd starts every five minutes."""
    job = {**worker_job, "Label": "org.storestow.work", "StartInterval": EVERY_SECONDS}
    del job["KeepAlive"]
    job["ProgramArguments"] = [*job["ProgramArguments"], "--until-idle"]
    return job["Label"], plistlib.dumps(job)
