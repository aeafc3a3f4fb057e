"""Change a file as an attacker, a bad disk or a cut line would, one small operation after the other."""

import random
import struct
from collections.abc import Callable, Sequence

INTERESTING = (0, 1, 2, 7, 8, 0x7F, 0x80, 0xFF, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
WORDS = (
    *(b"SQ", b"UN", b"OB", b"UI", b"US", b"DS", b"\0\0", b"\xff\xff"),
    *(
        struct.pack("<HHI", 0xFFFE, element, length)
        for element in (0xE000, 0xE00D, 0xE0DD)
        for length in (0, 0xFFFFFFFF)
    ),
    struct.pack("<HH2sHI", 0x7FE0, 0x0010, b"OW", 0, 0xFFFFFFFF),
    struct.pack("<HH2sHI", 0x0040, 0x0275, b"SQ", 0, 0xFFFFFFFF),
)


def mutated(content: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """Return `content` after one to eight operations; `others` lend pieces."""
    result = bytearray(content)
    for _ in range(chance.randint(1, 8)):
        chance.choice(_OPERATIONS)(result, others, chance)
    return bytes(result)


def _at(content: bytearray, chance: random.Random) -> int:
    """Return a place, more often in the first kilobytes, where headers are."""
    return chance.randrange(max(1, min(len(content), chance.choice([256, 1024, 4096, len(content) or 1]))))


def _flip(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    if content:
        content[_at(content, chance)] ^= 1 << chance.randrange(8)


def _number(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at, value = _at(content, chance), chance.choice(INTERESTING)
    content[at : at + 4] = struct.pack(chance.choice(["<I", ">I"]), value)


def _short(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at = _at(content, chance)
    content[at : at + 2] = struct.pack("<H", chance.choice(INTERESTING) & 0xFFFF)


def _cut(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    del content[_at(content, chance) :]


def _remove(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at = _at(content, chance)
    del content[at : at + chance.choice([1, 2, 4, 8, 64])]


def _word(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at = _at(content, chance)
    content[at:at] = chance.choice(WORDS) * chance.choice([1, 1, 1, 60])


def _repeat(content: bytearray, _: Sequence[bytes], chance: random.Random) -> None:
    at, length = _at(content, chance), chance.choice([2, 8, 32, 200])
    content[at:at] = content[at : at + length] * chance.choice([1, 2, 20])


def _graft(content: bytearray, others: Sequence[bytes], chance: random.Random) -> None:
    other, at = chance.choice(others), _at(content, chance)
    start = chance.randrange(max(len(other), 1))
    content[at:at] = other[start : start + chance.choice([8, 64, 512])]


_OPERATIONS: tuple[Callable[[bytearray, Sequence[bytes], random.Random], None], ...] = (
    *(_flip, _flip, _number, _number, _short, _cut, _remove, _word, _repeat, _graft),
)
