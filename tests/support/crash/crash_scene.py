"""What arrives in the crash tests: good instances, one again, one conflicting, one cut, garbage, an empty file."""

import random
import struct
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom.uid import generate_uid
from support.crash.crash_site import CrashSite
from support.sites.line_site import instance


@dataclass(frozen=True)
class Scene:
    """Files on their way to a site; `uncertain` is one the archive fails at first."""

    first: tuple[Path, ...]
    cut: Path
    other: Path
    second: tuple[Path, ...]
    garbage: Path
    empty: Path

    @property
    def uncertain(self) -> str:
        return str(pydicom.dcmread(self.second[0]).SOPInstanceUID)

    def arrive(self, site: CrashSite, *, is_announced: bool = True) -> None:
        """Have everything arrive, in five arrivals of two studies, or left as storescp leaves what still comes."""
        arrive = site.arrive if is_announced else site.leave
        arrive(*self.first[:2], self.cut)
        arrive(self.first[2], self.first[0], self.other)
        arrive(*self.second)
        arrive(self.garbage)
        arrive(self.empty)
        site.archive.failing[self.uncertain] = 0x0110  # processing failure: sent again, alone
        site.archive.fail_times[self.uncertain] = 1


def pixels(seed: int, count: int = 128 * 128) -> bytes:
    """Return pixels of CT_small's kind that no other seed gives."""
    noise = random.Random(seed)
    return struct.pack(f"<{count}h", *(noise.randrange(64) + (at // 256) for at in range(count)))


def make_scene(folder: Path) -> Scene:
    studies = [generate_uid(), generate_uid()]

    def make(number: int, study: int) -> Path:
        return instance(
            folder,
            f"{number}.dcm",
            StudyInstanceUID=studies[study],
            AccessionNumber=f"ACC{study}",
            ReferringPhysicianName="",
            PixelData=pixels(number),
        )

    first = tuple(make(number, 0) for number in range(3))
    cut, garbage, empty, other = (folder / name for name in ("cut", "garbage", "empty", "other"))
    cut.write_bytes(make(3, 0).read_bytes()[:-10])
    garbage.write_bytes(b"this is no DICOM file" * 100)
    empty.touch()
    changed = pydicom.dcmread(first[1])
    changed.PixelData = pixels(99)
    changed.save_as(other)
    return Scene(first, cut, other, tuple(make(number, 1) for number in (4, 5)), garbage, empty)
