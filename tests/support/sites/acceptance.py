"""Acceptance of several nodes (docs/scale.md): small in each run of the tests, whole with `make acceptance`."""

import os
from pathlib import Path
from typing import TypeVar

WHOLE = os.environ.get("STORESTOW_ACCEPTANCE") == "whole"
TABLE = Path(__file__).resolve().parents[3] / ".make" / "acceptance.tsv"
Size = TypeVar("Size")


def size(small: Size, whole: Size) -> Size:
    """Return how much a test does: `small` beside all other tests, `whole` for the acceptance itself."""
    return whole if WHOLE else small


def report(point: int, what: str, measured: str) -> None:
    """Print what was measured for a point of the acceptance, and add it to the table of a whole run."""
    print(f"acceptance {point}: {what}: {measured}")
    if WHOLE:
        TABLE.parent.mkdir(exist_ok=True)
        with TABLE.open("a") as table:
            table.write(f"{point}\t{what}\t{measured}\n")
