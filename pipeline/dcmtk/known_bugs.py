"""Known bugs of DCMTK builds, and which of them affect us.

No release up to 3.7.0 has every fix, and Debian ports some of them back. Each bug is listed with our measure,
because a version number alone tells an operator nothing.
"""

from collections.abc import Iterator
from typing import NamedTuple

from pipeline.dcmtk.programs import ProgramVersion

NO_RELEASE = (99, 0, 0)  # Fixed in the development tree only.


class KnownBug(NamedTuple):
    """A bug of every storescp before `fixed_in`, unless `fixed_by_debian`; `sentence` says what to do."""

    name: str
    fixed_in: tuple[int, int, int]
    fixed_by_debian: bool
    forbids_study_mode: bool
    sentence: str


# The hook command of study mode has one placeholder, #p, and the shell reads it from a quoted here-document
# (hooks/README.md): with no known build can a peer make the shell run anything, with or without these fixes. A
# folder outside the spool is different: objects acknowledged into it would be lost to us.
KNOWN_BUGS = (
    KnownBug(
        name="CVE-2022-2119",
        fixed_in=(3, 6, 8),
        fixed_by_debian=True,
        forbids_study_mode=True,
        sentence="a Study Instance UID of ../.. makes it write outside the spool in study mode (CVE-2022-2119): "
        'install dcmtk 3.6.8 or newer, or write mode = "association"',
    ),
    KnownBug(
        name="CVE-2024-34508",
        fixed_in=(3, 6, 9),
        fixed_by_debian=True,
        forbids_study_mode=False,
        sentence="a malformed message ends it (CVE-2024-34508, -34509); in study mode all who wait are cut off, "
        "in association mode only the sender: install dcmtk 3.6.9 or newer",
    ),
    KnownBug(
        name="CVE-2026-5663",
        fixed_in=NO_RELEASE,
        fixed_by_debian=True,
        forbids_study_mode=False,
        sentence="it puts a peer's words into hook commands as they are (CVE-2026-5663): our hook's command reads "
        "them from a quoted here-document, where nothing is run; give this storescp no other hook",
    ),
    KnownBug(
        name="nesting",
        fixed_in=NO_RELEASE,
        fixed_by_debian=False,
        forbids_study_mode=False,
        sentence="an object with some ten thousand nested sequences ends it in study mode: it is started again "
        "within a second, and the log says `refused` and which object; in association mode it reads none",
    ),
    KnownBug(
        name="dot-dot",
        fixed_in=NO_RELEASE,
        fixed_by_debian=False,
        forbids_study_mode=False,
        sentence="a Study Instance UID of .. is no error to it: our folders begin with S_, and it stays inside",
    ),
)


def known_bugs_of(storescp: ProgramVersion) -> Iterator[KnownBug]:
    """Yield every known bug of this version, the worst first."""
    for bug in KNOWN_BUGS:
        if storescp[:3] < bug.fixed_in and not (bug.fixed_by_debian and storescp.vendor == "Debian"):
            yield bug
