"""`storestow work` with shorter waits, so that a test of many failures does not wait half a minute after each."""

import sys
from pathlib import Path

from pipeline import schedule
from pipeline.commands.work import work
from pipeline.events import log_to_stderr
from pipeline.line import delivery_scheduler
from pipeline.processes import jobs
from pipeline.site.settings import load
from pipeline.worker import upkeep, worker

if __name__ == "__main__":
    jobs.RETRY_SECONDS = delivery_scheduler.RECLAIM_SECONDS = schedule.SHORTEST_WAIT = worker.POLL_SECONDS = 1.0
    upkeep.TIDY_SECONDS = 2.0
    log_to_stderr()
    work(load(Path(sys.argv[1])))
