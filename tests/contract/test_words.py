"""docs/words.md and ARCHITECTURE.md speak of what is there: every path they name, every state, every room."""

import re
from pathlib import Path

import pytest

from pipeline import model

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "pipeline"
WORDS = (REPOSITORY / "docs/words.md").read_text()
MAP = (REPOSITORY / "ARCHITECTURE.md").read_text()
OF_THE_SPOOL = {"incoming/", "arrivals/", "settled/", "quarantine/", "outputs/", "ahead/", "accounts/", "run/"}
PATH = re.compile(r"`([a-z_]+(?:/[a-z0-9_]+)*(?:\.py|/))`")


def is_there(path: str) -> bool:
    """A path is below the package or the repository; a name alone is of a file in the room spoken of."""
    return (
        (PACKAGE / path).exists() or (REPOSITORY / path).exists() or ("/" not in path and any(PACKAGE.rglob(path)))
    )


@pytest.mark.parametrize("text", [WORDS, MAP], ids=["words.md", "ARCHITECTURE.md"])
def test_every_path_is_there(text: str) -> None:
    named = set(PATH.findall(text)) - OF_THE_SPOOL
    assert {path for path in named if not is_there(path)} == set()


@pytest.mark.parametrize("states", ["Arrival", "Instance", "Delivery", "Receipt", "Order", "Retrieval"])
def test_every_state_has_a_meaning(states: str) -> None:
    table = WORDS.split("Each state")[1]
    rows = re.findall(rf"^\| {states.lower()} \| ([a-z, ]+) \|", table, re.MULTILINE)
    told = {state for row in rows for state in row.split(", ")}
    assert told == {str(state) for state in getattr(model, f"{states}State")}


def test_every_room_has_its_row_in_the_map() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    section = MAP.split("## The rooms of the package")[1].split("\n## ")[0]
    rows = {
        room
        for row in re.findall(r"^\| (`[^|]*)\|", section, re.MULTILINE)
        for room in re.findall(r"`(\w+)/`", row)
    }
    assert rows == rooms
