"""Command lines of findscu, movescu, getscu and echoscu as tuples; the query keys are in files.

No accession number or UID therefore appears in the list of processes, which every user can read.
"""

from collections.abc import Sequence
from pathlib import Path

from pipeline.config.order_tables import PacsTable


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
