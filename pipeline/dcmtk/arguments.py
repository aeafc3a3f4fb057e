"""Command lines as tuples: built purely here, compared in unit tests, run elsewhere."""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.config.certificates import Certificates
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.config.site_table import SHELL_SAFE_PATH
from pipeline.dcmtk.profile import PROFILE

# For a peer that connects and says nothing, whose request DCMTK finds illegal and does not answer (a blank AE
# title), or who does not answer our abort: in study mode everybody else waits so long.
ACSE_SECONDS = 5
SOCKET_SECONDS = 60  # for a peer that falls silent in mid-message; in study mode
LATER_SECONDS = 10  # storescp drops a silent peer without a word: our own limit, which is told, comes first


class NoRoomInShell(ValueError):
    """Say that a path may not stand in the command line storescp hands to a shell."""


def hook_command(python: Path, hook: Path, *words: Path, delimiter: str) -> str:
    """Return what storescp runs at the end of a study: constants of ours, and `#p` before the last of the `words`.

    The hook is told the incoming folder, and last the file of `log_configuration`, of which it gives the study's
    folder its part.

    storescp puts the study folder in the place of `#p`, unquoted, and up to 3.7.0 with whatever characters
    the Study Instance UID holds (CVE-2026-5663). In a quoted here-document the shell expands nothing, so the
    text reaches the hook as one argument on every version; `delimiter` ends it and must not be guessable.
    Raises NoRoomInShell naming the path.
    """
    for path in (python, hook, *words):
        if not path.is_absolute() or not SHELL_SAFE_PATH.fullmatch(str(path)):
            raise NoRoomInShell(
                f"{path} stands in a command that storescp hands to a shell and must be absolute, "
                "of A-Z a-z 0-9 . _ / + - only"
            )
    *before, objects = words
    told = " ".join(map(str, (python, "-I", "-S", hook, *before)))
    return f"IFS= read -r folder <<'{delimiter}'\n#p\n{delimiter}\nexec {told} \"$folder\" {objects}"


def storescp_study_argv(
    storescp: Path, receiver: ReceiverTable, *, incoming: Path, run: Path, hook: str
) -> tuple[str, ...]:
    """Return the permanent storescp of study mode; `hook` is the `hook_command`, `run` holds `study_files`.

    `-xs` keeps the order of objects and hooks, the prefix `S` keeps the Study Instance UID `..` inside,
    `+uf` never writes a file twice, `-up` takes UIDs padded with a blank.
    """
    profile, log = study_files(run, receiver.name)
    return (
        *_door(storescp, receiver, SOCKET_SECONDS),
        *("-xf", str(profile), PROFILE, "-lc", str(log), "-od", str(incoming), "-su", "S"),
        *("-xs", "-tos", str(receiver.quiet_seconds), "-xcs", hook, str(receiver.port)),
    )


def study_files(run: Path, receiver: str) -> tuple[Path, Path]:
    """Return where a receiver's profile and log configuration for study mode are written."""
    return run / f"{receiver}.profile", run / f"{receiver}.log.cfg"


def storescp_inetd_argv(
    storescp: Path, receiver: ReceiverTable, *, folder: Path, profile: str, log_configuration: str
) -> tuple[str, ...]:
    """Return the storescp that serves the one association on its standard input, and keeps bytes as sent.

    `profile` and `log_configuration` are file names as the child sees them: with `--inetd` storescp closes
    its standard error, and only a log configuration makes it speak. TLS has ended before it.
    """
    return (
        *_door(storescp, receiver, math.ceil(receiver.idle_timeout.total_seconds()) + LATER_SECONDS),
        *("--inetd", "+B", "-xf", profile, PROFILE, "-lc", log_configuration, "-od", str(folder)),
    )


def log_configuration(file: str | None = None, *, objects: Path | None = None) -> str:
    """Return the text that makes storescp say which object it has in hand, and what is wrong with it.

    It says so on standard error, or, with a `file`, there: an association's storescp has no standard error.
    Of an association's acceptance, up to 128 contexts long, nothing is said. What is about single objects goes to
    the file `objects` too, before the object is acknowledged.
    """
    kind, *options = ("FileAppender", f"File = {file}") if file else ("ConsoleAppender", "logToStdErr = true")
    lines = [
        "log4cplus.rootLogger = WARN, out",
        f"log4cplus.logger.dcmtk.apps.storescp = DEBUG{', objects' if objects else ''}",
        "log4cplus.logger.dcmtk.apps.storescp.progress = OFF",
        *_appender("out", kind, *options, without=["BEGIN A-ASSOCIATE-AC"]),
    ]
    if objects:
        lines += [
            "log4cplus.logger.dcmtk.dcmdata = WARN, objects",
            *_appender(
                *("objects", "FileAppender", f"File = {objects}", "Threshold = INFO"),
                without=["Association ", "Received Echo Request"],
            ),
        ]
    return "\n".join([*lines, ""])


def _appender(name: str, kind: str, *options: str, without: Sequence[str]) -> Iterator[str]:
    prefix = f"log4cplus.appender.{name}"
    yield f"{prefix} = log4cplus::{kind}"
    yield from (f"{prefix}.{option}" for option in (*options, "Append = true", "ImmediateFlush = true"))
    yield f"{prefix}.layout = log4cplus::PatternLayout"
    yield f"{prefix}.layout.ConversionPattern = %P: %m%n"
    for number, text in enumerate(without, 1):
        yield f"{prefix}.filters.{number} = log4cplus::spi::StringMatchFilter"
        yield f"{prefix}.filters.{number}.StringToMatch = {text}"
        yield f"{prefix}.filters.{number}.AcceptOnMatch = false"


def _door(storescp: Path, receiver: ReceiverTable, silence_seconds: int) -> tuple[str, ...]:
    return (
        *(str(storescp), "-aet", receiver.ae_title, "-pdu", str(receiver.max_pdu)),
        *("-dhl", "-up", "+uf", "-ta", str(ACSE_SECONDS), "-ts", str(silence_seconds)),
    )


def encrypted(argv: tuple[str, ...], certificates: Certificates | None) -> tuple[str, ...]:
    """Return a command line that speaks TLS (non-downgrading BCP 195) and never asks for a password."""
    if certificates is None:
        return argv
    trusted = ("+cf", str(certificates.ca)) if certificates.ca else ()
    verify = "-rc" if certificates.client_is_required else "-vc" if certificates.ca else "-ic"
    options = ("+tls", str(certificates.key), str(certificates.cert), "-pw", *trusted, "+py", verify)
    return (argv[0], *options, *argv[1:])
