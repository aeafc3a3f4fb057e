"""Draw what py-spy has sampled in `flame.py` as a flame graph: docs/flame-j2k.svg.

`make flame` runs both.

A box is a function, as wide as the share of samples in which it or something it called was at work; its caller is
below it. Starting and making the slices are left out, and so is what would be narrower than half a pixel: the
picture py-spy draws itself is twice as large, and a third of it is the start.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

FIRST = "prepare (pipeline/line/prepare.py"  # what is below it in a stack is the bench
PICTURE = Path(__file__).parents[1] / "docs/flame-j2k.svg"
WIDTH, ROW, NARROWEST, A_LETTER = 1100, 17, 0.5, 6.6  # pixels
ENCODES, PROVES, OURS, OTHER = "#e8863a", "#4f9bd9", "#8bc34a", "#d9c36a"
# Whatever these call has their colour, too.
PARTS = (("jpeg2k_encode", ENCODES), ("decode (openjpeg/", PROVES))


@dataclass
class Box:
    """A function in its place in the stacks: its samples, and what it called."""

    samples: int = 0
    calls: dict[str, "Box"] = field(default_factory=dict)


def boxes_of(stacks: str) -> Box:
    """Return the box of all stacks (a line each: frames between semicolons, and the number of samples)."""
    root = Box()
    for line in stacks.splitlines():
        names, _, samples = line.rpartition(" ")
        frames = [re.sub(r":\d+\)$", ")", frame) for frame in names.split(";")]
        at = next((number for number, frame in enumerate(frames) if frame.startswith(FIRST)), None)
        if at is None:
            continue
        root.samples += int(samples)
        box = root
        for frame in frames[at:]:
            box = box.calls.setdefault(frame, Box())
            box.samples += int(samples)
    return root


def drawn(box: Box, left: float, row: int, total: int, inherited: str = "") -> Iterator[tuple[int, str]]:
    """Yield what is called, row by row from the bottom, each with the row it stands in."""
    for name, call in sorted(box.calls.items()):
        width = call.samples * WIDTH / total
        part = inherited or next((colour for begin, colour in PARTS if name.startswith(begin)), "")
        if width >= NARROWEST:
            colour = part or (OURS if "(pipeline/" in name else OTHER)
            letters = int(width / A_LETTER)
            text = name if len(name) <= letters else f"{name[: letters - 1]}…" if letters > 3 else ""
            title = f"<title>{escape(name)}: {call.samples / total:.1%}</title>"
            shape = f'<rect width="{width:.1f}" height="{ROW - 1}" fill="{colour}"/>'
            inside = f'{title}{shape}<text x="2" y="12">{escape(text)}</text>'
            yield row, f'<g transform="translate({left:.1f},{{y}})">{inside}</g>'
            yield from drawn(call, left, row + 1, total, part)
        left += width


def main() -> None:
    """Draw."""
    root = boxes_of(Path(sys.argv[1]).read_text(encoding="utf-8"))
    parts = list(drawn(root, 10, 0, root.samples))
    height = 40 + ROW * (1 + max(row for row, _ in parts))
    box = f'viewBox="0 0 {WIDTH + 20} {height}" font-family="monospace" font-size="11"'
    said = f"CT prepared in JPEG 2000, {root.samples} samples: orange encodes, blue proves, green is ours"
    picture = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {box}><rect width="100%" height="100%" fill="white"/>',
        f'<text x="10" y="18" font-size="13">{said}</text>',
        *(part.replace("{y}", str(height - 10 - ROW * (row + 1))) for row, part in parts),
        "</svg>",
    ]
    PICTURE.write_text("\n".join(picture) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
