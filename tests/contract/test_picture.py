"""docs/rooms.svg shows the rooms as they are: the same rooms and arrows, and nearly the same sizes."""

import importlib.util
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

REPOSITORY = Path(__file__).resolve().parents[2]
_spec = importlib.util.spec_from_file_location("picture", REPOSITORY / "docs/picture.py")
picture = importlib.util.module_from_spec(_spec)
sys.modules["picture"] = picture  # its dataclass looks its own module up
_spec.loader.exec_module(picture)

AGAIN = "run `make picture` and commit docs/rooms.svg"


def nearly(shown: int, is_now: int) -> bool:
    """A picture does not grow old by one module, or by a few lines."""
    return abs(shown - is_now) <= max(2, is_now // 5)


def test_the_picture_has_the_rooms_and_the_arrows_of_the_code() -> None:
    now, shown = picture.as_json(picture.measured()), picture.told_by()
    assert shown["modules"].keys() == now["modules"].keys(), AGAIN
    assert shown["imports"].keys() == now["imports"].keys(), AGAIN


def test_the_picture_tells_the_sizes_of_the_rooms_nearly() -> None:
    now, shown = picture.as_json(picture.measured()), picture.told_by()
    for kind in ("modules", "lines"):
        stale = {r: (shown[kind][r], n) for r, n in now[kind].items() if not nearly(shown[kind].get(r, 0), n)}
        assert stale == {}, AGAIN


def test_what_is_drawn_is_what_the_picture_says_it_is_drawn_from() -> None:
    house = picture.measured()
    drawn = ET.fromstring(picture.drawn(house))
    words = {element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")}
    assert house.modules.keys() <= words
    assert {picture.size_of(house, room) for room in house.modules} <= words
    assert {str(count) for count in house.imports.values()} <= words


def test_every_arrow_goes_down_and_every_room_has_a_caption() -> None:
    house = picture.measured()
    floor_of = {room: floor for floor, rooms in enumerate(house.floors()) for room in rooms}
    assert [pair for pair in house.imports if floor_of[pair[0]] <= floor_of[pair[1]]] == []
    assert house.modules.keys() - picture.CAPTIONS.keys() == set()
