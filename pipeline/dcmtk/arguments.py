"""Command lines as tuples: pure functions build them, unit tests compare them, `processes` runs them.

The query keys of findscu, movescu and getscu are in files: no accession number or UID appears in the list of
processes, which every user can read.
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.config.certificates import Certificates
from pipeline.config.order_tables import PacsTable
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.config.site_table import SHELL_SAFE_PATH
from pipeline.dcmtk.profile import PROFILE

# Time-out for a peer that connects and says nothing, sends a request that DCMTK does not answer (a blank AE
# title), or ignores our abort. In study mode every other peer waits this long.
ACSE_SECONDS = 5
SOCKET_SECONDS = 60  # Time-out in study mode for a peer that falls silent within a message.
# storescp drops a silent peer without a message, so our own limit, which is logged, must come first.
LATER_SECONDS = 10


class NoRoomInShell(ValueError):
    """Say that a path may not stand in the command line that storescp gives to a shell."""


def hook_command(python: Path, hook: Path, *words: Path, delimiter: str) -> str:
    """Return the command for the end of a study: constants of ours, and `#p` before the last of the `words`.

    The hook's arguments are the incoming folder and the study folder, and last the log file of
    `log_configuration`, whose part about the study the hook moves into the study's folder.

    storescp replaces `#p` by the study folder, unquoted, and up to 3.7.0 with all characters of the Study Instance
    UID (CVE-2026-5663). In a quoted here-document the shell expands nothing, so the hook receives the text as one
    argument in every version; `delimiter` ends the document and must not be guessable. Raises NoRoomInShell, which
    names the path.
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

    `-xs` keeps the order of objects and hooks, the prefix `S` keeps a Study Instance UID `..` inside the folder,
    `+uf` never writes a file twice, `-up` accepts UIDs padded with a blank.
    """
    profile, log = study_files(run, receiver.name)
    return (
        *_door(storescp, receiver, SOCKET_SECONDS),
        *("-xf", str(profile), PROFILE, "-lc", str(log), "-od", str(incoming), "-su", "S"),
        *("-xs", "-tos", str(receiver.quiet_seconds), "-xcs", hook, str(receiver.port)),
    )


def study_files(run: Path, receiver: str) -> tuple[Path, Path]:
    """Return the paths of a receiver's profile and log configuration for study mode."""
    return run / f"{receiver}.profile", run / f"{receiver}.log.cfg"


def storescp_inetd_argv(
    storescp: Path, receiver: ReceiverTable, *, folder: Path, profile: str, log_configuration: str
) -> tuple[str, ...]:
    """Return the storescp that serves one association on its standard input, and keeps bytes as sent.

    `profile` and `log_configuration` are file names relative to the child's folder: with `--inetd` storescp closes
    its standard error and speaks only through a log configuration. TLS ends before storescp.
    """
    return (
        *_door(storescp, receiver, math.ceil(receiver.idle_timeout.total_seconds()) + LATER_SECONDS),
        *("--inetd", "+B", "-xf", profile, PROFILE, "-lc", log_configuration, "-od", str(folder)),
    )


def log_configuration(file: str | None = None, *, objects: Path | None = None) -> str:
    """Return the log configuration that makes storescp name each object and its faults.

    storescp writes to standard error or, with `file`, to that file. To a file it writes each message at once; to
    standard error it writes each piece of each line by itself, 44 pieces for an object. An association's storescp
    has no standard error. The acceptance of an association, up to 128 contexts long, is not logged, nor, without
    `objects`, the request, which the receiver of associations has read itself. Lines about single objects also go
    to the file `objects` before the object is acknowledged.
    """
    kind, *options = ("FileAppender", f"File = {file}") if file else ("ConsoleAppender", "logToStdErr = true")
    lines = [
        "log4cplus.rootLogger = WARN, out",
        f"log4cplus.logger.dcmtk.apps.storescp = DEBUG{', objects' if objects else ''}",
        "log4cplus.logger.dcmtk.apps.storescp.progress = OFF",
        *_appender(
            "out", kind, *options, without=["BEGIN A-ASSOCIATE-AC", *([] if objects else ["BEGIN A-ASSOCIATE-RQ"])]
        ),
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
    """Return the command line with TLS (non-downgrading BCP 195) that never asks for a password."""
    if certificates is None:
        return argv
    trusted = ("+cf", str(certificates.ca)) if certificates.ca else ()
    verify = "-rc" if certificates.client_is_required else "-vc" if certificates.ca else "-ic"
    options = ("+tls", str(certificates.key), str(certificates.cert), "-pw", *trusted, "+py", verify)
    return (argv[0], *options, *argv[1:])


def findscu_argv(findscu: Path, pacs: PacsTable, *, answers: Path, queries: Sequence[Path]) -> tuple[str, ...]:
    """Return the findscu that sends all `queries` over one association and writes answers to `answers`."""
    return (
        *(str(findscu), "-v", *_peer(pacs), "-td", str(_seconds(pacs.answer_timeout.total_seconds()))),
        *("-X", "-od", str(answers), *_address(pacs), *map(str, queries)),
    )


def movescu_argv(
    movescu: Path, pacs: PacsTable, *, destination: str, longest_seconds: float, queries: Sequence[Path]
) -> tuple[str, ...]:
    """Return the movescu that has all `queries` sent to the AE title `destination`.

    An archive may send no response until it has finished, so `longest_seconds` limits the whole retrieval.
    """
    return (
        *(str(movescu), "-d", *_peer(pacs), "-aem", destination, "--no-port"),
        *("-td", str(_seconds(longest_seconds)), *_address(pacs), *map(str, queries)),
    )


def getscu_argv(
    getscu: Path, pacs: PacsTable, *, folder: Path, longest_seconds: float, queries: Sequence[Path]
) -> tuple[str, ...]:
    """Return the getscu that receives all `queries` into `folder` over its own association."""
    return (
        *(str(getscu), "-d", *_peer(pacs), "-td", str(_seconds(longest_seconds)), "+B"),
        *("-od", str(folder), *_address(pacs), *map(str, queries)),
    )


def echoscu_argv(echoscu: Path, pacs: PacsTable) -> tuple[str, ...]:
    """Return the echoscu that asks whether the archive answers us; its exit code is the answer."""
    seconds = str(_seconds(pacs.answer_timeout.total_seconds()))
    return (str(echoscu), *_peer(pacs)[1:], "-td", seconds, *_address(pacs))


def _peer(pacs: PacsTable) -> tuple[str, ...]:
    connect = str(_seconds(pacs.connect_timeout.total_seconds()))
    return ("-S", "-aet", pacs.calling_ae_title, "-aec", pacs.ae_title, "-to", connect, "-ta", connect)


def _address(pacs: PacsTable) -> tuple[str, ...]:
    return (pacs.host, str(pacs.port))


def _seconds(seconds: float) -> int:
    return max(1, round(seconds))  # 0 would mean no limit.
