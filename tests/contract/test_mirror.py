"""Who knows a module knows where its tests are: `tests/unit` has the rooms and the modules of the package."""

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE, UNIT = REPOSITORY / "pipeline", REPOSITORY / "tests/unit"
ROOMS = sorted(room.parent for room in PACKAGE.glob("*/__init__.py"))


def names_of(room: Path) -> set[str]:
    """Return what a test in this room may be named after: the room, a room inside it, or a module of either."""
    folders = {path.name for path in room.rglob("*") if path.is_dir()}
    return {room.name, *folders, *(file.stem for file in room.rglob("*.py"))}


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_every_room_of_the_package_has_its_unit_tests(room: Path) -> None:
    assert list((UNIT / room.name).glob("test_*.py")), f"tests/unit/{room.name} holds no tests"


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_a_file_of_unit_tests_is_named_after_a_module_of_its_room(room: Path) -> None:
    stems = {file.stem.removeprefix("test_") for file in (UNIT / room.name).glob("*.py")}
    names = names_of(room)
    strange = {stem for stem in stems if not any(stem == name or stem.startswith(f"{name}_") for name in names)}
    assert strange == set(), (
        "name them after the module they are about (test_<module>.py, and where that gets too long "
        "test_<module>_<topic>.py beside it), or move a situation of several rooms to tests/scenarios"
    )


def test_beside_the_rooms_are_the_flat_modules_and_the_hooks() -> None:
    folders = {file.parent.name for file in UNIT.glob("*/*.py")}
    assert folders - {room.name for room in ROOMS} == {"hooks"}
    assert {file.stem.removeprefix("test_") for file in UNIT.glob("*.py")} <= {
        f.stem for f in PACKAGE.glob("*.py")
    }
    hooks = {hook.name.replace("-", "_") for hook in (REPOSITORY / "hooks").iterdir()}
    assert {file.stem.removeprefix("test_") for file in (UNIT / "hooks").glob("*.py")} <= hooks


def test_helpers_live_in_support() -> None:
    assert [file.name for file in (REPOSITORY / "tests").glob("*.py")] == ["conftest.py"]
