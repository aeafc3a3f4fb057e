"""The services of a site, for systemd or launchd: the shipped ones with its paths, and one for each receiver.

Two more are made from the shipped ones: a storescp that systemd or launchd runs itself, and a timed worker.
"""

import plistlib
import re
import shlex
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

from pipeline.config.receiver_tables import ReceiverTable
from pipeline.errors import Configuration, Usage
from pipeline.receiving.external import command_line
from pipeline.site.settings import Settings
from pipeline.spool.durable import rename

Manager = Literal["systemd", "launchd"]

# The words in the shipped files that are replaced.
PROGRAM = "/opt/storestow/bin/storestow"
SITE = "/etc/storestow/site.toml"
SPOOL = "/var/spool/storestow"

UNITS = Path("/etc/systemd/system")
SYSUSERS = Path("/etc/sysusers.d/storestow.conf")
TMPFILES = Path("/etc/tmpfiles.d/storestow.conf")
DAEMONS = Path("/Library/LaunchDaemons")
LOGS = Path("/Library/Logs/storestow")
_PLAIN = re.compile(r"[A-Za-z0-9._/+-]+")  # Characters that systemd and shells read literally in a path.
_UNSEEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))  # noqa: S108  # ProtectHome, PrivateTmp
_BEGINNING = re.compile(r"\A(?:#.*\n)*")
EVERY_SECONDS = 300  # For launchd; systemd/storestow-work.timer has the same interval.


@dataclass(frozen=True)
class ServicePlan:
    """Files to write, and commands to run afterwards, in this order."""

    files: dict[Path, bytes]
    commands: list[str]


def manager_named(name: str) -> Manager:
    """Return the service manager of this name, or this machine's if the name is empty; raises Usage otherwise."""
    if name in {"systemd", "launchd"}:
        return cast("Manager", name)
    if name:
        raise Usage(f"--for {name}: services are made for systemd or launchd")
    return "launchd" if sys.platform == "darwin" else "systemd"


def plan(settings: Settings, site: Path, manager: Manager) -> ServicePlan:
    """Return the plan that makes this site permanent.

    Raises Configuration if a path cannot be in a service file.
    """
    program = Path(sys.prefix) / "bin" / "storestow"
    for path in (program, site, *writable(settings)):
        _require_plain(path)
    return (_systemd if manager == "systemd" else _launchd)(settings, site, program)


def write(files: dict[Path, bytes], *, replace: bool) -> list[Path]:
    """Write the files that do not exist yet, and return them.

    Raises Usage if a file has other content and `replace` is false, Configuration if it cannot be written.
    """
    missing = {path: data for path, data in files.items() if not (path.exists() and path.read_bytes() == data)}
    changed = [str(path) for path in missing if path.exists()]
    if changed and not replace:
        raise Usage(
            f"{', '.join(changed)}: there already, with other content; compare with --dry-run, then say --replace"
        )
    for path, data in missing.items():
        _write(path, data)
    return list(missing)


def writable(settings: Settings) -> list[Path]:
    """Return the folders the worker writes to: the spool, the store, and the folders of destinations."""
    store = settings.cluster.store if settings.cluster else None
    folders = (store, *(getattr(destination, "folder", None) for destination in settings.destination))
    return [settings.site.spool, *dict.fromkeys(folder for folder in folders if isinstance(folder, Path))]


def _write(path: Path, data: bytes) -> None:
    beside = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        beside.write_bytes(data)
        beside.chmod(0o644)
        rename(beside, path)
    except OSError as error:
        raise Configuration(
            f"{path}: cannot be written: {error.strerror}; services are installed as root"
        ) from error


def _require_plain(path: Path) -> None:
    if not _PLAIN.fullmatch(str(path)):
        raise Configuration(f"{path}: a service takes a path of A-Z a-z 0-9 . _ / + - only; move it")


def _shipped(manager: Manager) -> Iterator[Path]:
    """Yield the shipped files: they are beside the package in a clone, in `share` of an installation."""
    places = (Path(__file__).parents[2] / manager, Path(sys.prefix) / "share" / "storestow" / manager)
    folder = next((place for place in places if place.is_dir()), None)
    if folder is None:
        raise Configuration(f"{places[-1]} is missing; install storestow again")
    return (path for path in sorted(folder.iterdir()) if not path.name.startswith("."))


def _systemd(settings: Settings, site: Path, program: Path) -> ServicePlan:
    hidden = [str(path) for path in (program, site, *writable(settings)) if _is_below(path, _UNSEEN)]
    if hidden:
        raise Configuration(
            f"{', '.join(hidden)}: the services see no home and no temporary folders; move it, for example to /srv"
        )
    places = {"sysusers.conf": SYSUSERS, "tmpfiles.conf": TMPFILES}
    on_demand, folders = _works_on_demand(settings), writable(settings)[1:]
    texts = {}
    for shipped in _shipped("systemd"):
        text = shipped.read_text(encoding="utf-8").replace(PROGRAM, str(program)).replace(SITE, str(site))
        texts[shipped.name] = text
    worker = _with_folders(texts.pop("storestow-worker.service"), folders)
    timer = texts.pop("storestow-work.timer")
    for receiver in _external(settings):
        text = texts["storestow-receiver@.service"]
        # The worker started by the hook has the same rights as the hook.
        text = _with_folders(text, folders) if on_demand else text
        argv = command_line(settings, receiver, site)
        texts[f"storestow-storescp-{receiver.name}.service"] = storescp_unit(text, receiver.name, argv)
    texts |= (
        {"storestow-work.timer": timer, "storestow-work.service": work_unit(worker)}
        if on_demand
        else {"storestow-worker.service": worker}
    )
    files = {
        places.get(name, UNITS / name): text.replace(SPOOL, str(settings.site.spool)).encode()
        for name, text in texts.items()
    }
    units = ["storestow-work.timer" if on_demand else "storestow-worker.service"]
    units += [f"storestow-receiver@{receiver.name}.service" for receiver in _ours(settings)]
    units += [f"storestow-storescp-{receiver.name}.service" for receiver in _external(settings)]
    units += ["storestow-shim.service"] * settings.has_shim
    return ServicePlan(
        files,
        [
            "systemd-sysusers",
            "systemd-tmpfiles --create storestow.conf",
            "systemctl daemon-reload",
            f"runuser -u storestow -- {program} --site {site} check",
            *_prepared(settings, f"runuser -u storestow -- {program} --site {site}"),
            f"systemctl enable --now {' '.join(units)} storestow.target",
        ],
    )


def _external(settings: Settings) -> list[ReceiverTable]:
    return [receiver for receiver in settings.receiver if receiver.mode == "external"]


def _ours(settings: Settings) -> list[ReceiverTable]:
    return [receiver for receiver in settings.receiver if receiver.mode != "external"]


def _works_on_demand(settings: Settings) -> bool:
    """Say whether a hook starts the worker, so that none runs all the time."""
    return any(receiver.hook == "process-study" for receiver in settings.receiver)


def _prepared(settings: Settings, storestow: str) -> list[str]:
    """Return the command that writes the files of an external storescp, as the user who runs it."""
    return [f"{storestow} receive {receiver.name} --print >/dev/null" for receiver in _external(settings)]


def _with_folders(text: str, folders: Iterable[Path]) -> str:
    """Let the worker write to these folders; `-`, because one that is not mounted must not block all others."""
    lines = "".join(f"ReadWritePaths=-{folder}\n" for folder in folders)
    return text.replace(f"ReadWritePaths={SPOOL}\n", f"ReadWritePaths={SPOOL}\n{lines}")


def _is_below(path: Path, tops: Iterable[Path]) -> bool:
    return any(top in (path, *path.parents) for top in tops)


def _launchd(settings: Settings, site: Path, program: Path) -> ServicePlan:
    spool = settings.site.spool
    files: dict[Path, bytes] = {}
    for shipped in _shipped("launchd"):
        job = plistlib.loads(shipped.read_bytes())
        _, *words = job["ProgramArguments"]
        job["ProgramArguments"] = [str(program), *(str(site) if word == SITE else word for word in words)]
        if words[-1] == "serve" and not settings.has_shim:
            continue
        if words[-2:-1] == ["receive"]:
            own = [_of_receiver(job, receiver.name) for receiver in _ours(settings)]
            made = [(str(job["Label"]), plistlib.dumps(job)) for job in own]
            lines = [(receiver, command_line(settings, receiver, site)) for receiver in _external(settings)]
            made += [storescp_job(job, receiver.name, argv, LOGS) for receiver, argv in lines]
        elif words[-1] == "work" and _works_on_demand(settings):
            made = [work_job(job)]
        else:
            made = [(shipped.stem, plistlib.dumps(job))]
        files |= {DAEMONS / f"{label}.plist": data for label, data in made}
    user = "-fullName storestow -shell /usr/bin/false -home /var/empty -roleAccount -UID 450"
    return ServicePlan(
        files,
        [
            f"dscl . -read /Users/_storestow >/dev/null || sysadminctl -addUser _storestow {user}",
            f"install -d -o _storestow -m 750 {shlex.quote(str(spool))} && install -d -o _storestow {LOGS}",
            f"sudo -u _storestow {program} --site {site} check",
            *_prepared(settings, f"sudo -u _storestow {program} --site {site}"),
            *(f"launchctl bootstrap system {path}" for path in files),
        ],
    )


def _of_receiver(job: dict[str, object], name: str) -> dict[str, object]:
    label, log = f"org.storestow.receiver.{name}", str(LOGS / f"receiver.{name}.log")
    words = job["ProgramArguments"]
    assert isinstance(words, list)
    about = {"Label": label, "StandardOutPath": log, "StandardErrorPath": log}
    return {**job, **about, "ProgramArguments": [*words[:-1], name]}


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
