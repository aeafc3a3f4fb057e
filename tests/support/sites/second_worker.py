"""A worker of its own process beside others on one spool and one ledger, as a node that has this name."""

import contextlib
import sys
from pathlib import Path

from pipeline.commands.work import work
from pipeline.events import log_to_stderr
from pipeline.ledger.claims import Claimant
from pipeline.site import node, open_site
from pipeline.site.settings import load

if __name__ == "__main__":
    file, name, lost_after = sys.argv[1:]
    open_site.sole_worker = lambda _spool: contextlib.nullcontext()  # type: ignore[assignment]
    open_site.claimant_of = lambda _settings: Claimant(name, name)
    node.LOST_AFTER_SECONDS = float(lost_after)
    log_to_stderr()
    work(load(Path(file)))
