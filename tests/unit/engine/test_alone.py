"""A site without [cluster] has no thread, connection, process or package for notices."""

import json
import subprocess
import sys
from pathlib import Path

from support.machine.dicom_programs import ENVIRONMENT
from support.sites.line_site import site_file

TESTS = Path(__file__).resolve().parents[2]
OBSERVED = """
import json, sys, threading, time
from pathlib import Path
import psutil
from pipeline.site.open_site import opened
from pipeline.site.settings import load
from pipeline.worker.worker import Worker

with opened(load(Path(sys.argv[1]))) as site:
    worker = Worker(site)
    thread = threading.Thread(target=worker.run, name="loop")
    thread.start()
    while not site.ledger.noted("tried"):  # Until the loop runs: its first round asks everything once.
        if worker._heartbeat._next:
            break
    worker.round()
    process = psutil.Process()
    print(json.dumps({
        "modules": sorted({name.partition(".")[0] for name in sys.modules}),
        "threads": sorted(one.name for one in threading.enumerate()),
        "connections": len(process.net_connections()),
        "children": len(process.children()),
    }))
    worker.stop()
    thread.join()
"""
OF_A_CLUSTER = {"psycopg", "psycopg_pool", "procrastinate", "asgiref", "croniter"}


def observed(code: str, *arguments: object) -> str:
    argv = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(argv, env=ENVIRONMENT, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def test_the_package_loads_nothing_of_a_cluster():
    loaded = observed("import sys, pipeline, pipeline.engine.alone; print(*sys.modules)").split()
    assert "pipeline.engine.alone" in loaded
    assert not OF_A_CLUSTER & {name.partition(".")[0] for name in loaded}


def test_a_worker_on_a_file_has_nothing_for_notices(tmp_path):
    found = json.loads(observed(OBSERVED, site_file(tmp_path)))
    assert "sqlalchemy" in found["modules"]
    assert not OF_A_CLUSTER & set(found["modules"])
    assert "loop" in found["threads"]
    assert "notices" not in found["threads"]
    assert (found["connections"], found["children"]) == (0, 0)
