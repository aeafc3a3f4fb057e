"""The site of the demonstration: one receiver, one archive, all below one folder."""

import json
from pathlib import Path

AE_TITLE = "STORESTOW"
CALLING_AE_TITLE = "CT1"  # what the demonstration's sender calls itself; the mapping below knows it
INSTITUTION = "Example Hospital, Main Site"

SITE = """\
# Written anew by every `make run`.
[site]
spool = "{spool}"
keep_originals = "1d"
institution_mapping = "institution_mapping.json"

[[receiver]]
name = "modalities"
ae_title = "{ae_title}"
port = {port}
quiet_seconds = 2    # a hospital takes 10 or more
to = ["archive"]

[[destination]]
name = "archive"
kind = "stow"
url = "{url}"
encode = "j2k"
"""


def write(folder: Path, *, port: int, url: str) -> Path:
    """Write site.toml and the institution mapping into `folder`; return the former."""
    (folder / "institution_mapping.json").write_text(json.dumps({CALLING_AE_TITLE: INSTITUTION}, indent=2))
    file = folder / "site.toml"
    file.write_text(SITE.format(spool=folder / "spool", ae_title=AE_TITLE, port=port, url=url))
    return file
