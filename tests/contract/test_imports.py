"""What a process that only waits may not load: it would be held for as long as the site is up."""

import subprocess
import sys
from contextlib import closing

import pytest

from pipeline import destinations
from pipeline.processes.process_pool import ProcessPool

SETTINGS = "pipeline.commands.cli", "pipeline.site.settings"
DESTINATIONS = tuple(f"pipeline.destinations.{kind}" for kind in destinations.kinds())
GUARDS = "pipeline.guards.none", "pipeline.guards.qido"
HEAVY = {"pydicom", "numpy", "PIL", "imagecodecs", "requests", "sqlalchemy", "jinja2", "starlette"}


@pytest.mark.parametrize("part", ["pipeline.receiving", "pipeline.commands.up"])
def test_a_part_that_waits_loads_nothing_that_reads_images_or_talks_to_archives(part):
    modules = ", ".join((*SETTINGS, *DESTINATIONS, *GUARDS, part))
    code = f"import sys, {modules}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert part in loaded.split()
    assert not HEAVY & set(loaded.split())


@pytest.mark.parametrize("task", ["prepare", "prepare_with_patient", "identify", "encoded_ahead"])
def test_a_process_of_the_pool_loads_neither_the_configuration_nor_the_ledger_nor_orders(task):
    code = f"import sys, pipeline.line.{task}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert f"pipeline.line.{task}" in loaded.split()
    assert not {"sqlalchemy", "pydantic", "pipeline.ledger", "pipeline.orders"} & set(loaded.split())


def test_a_process_that_reads_what_came_waits_for_no_import_of_pydicom():
    code = "import sys, pipeline.line.identify; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-I", "-c", code], check=True, capture_output=True, text=True).stdout
    assert not HEAVY & set(loaded.split())


@pytest.mark.parametrize(
    "tasks",
    [
        "pipeline.cstore.uncompressed",
        "pipeline.dicom.archived_copy",
        "pipeline.dicom.same_content",
        "pipeline.disc.formats.parallel",
        "pipeline.disc.objects.conversion",
        "pipeline.disc.pages.thumbnails",
        "pipeline.line.encoded_ahead",
        "pipeline.line.prepare_with_patient",
    ],
)
def test_a_process_of_the_pool_does_its_tasks_without_what_pydicom_downloads_test_files_with(tasks):
    question = f"__import__('{tasks}') and __import__('pydicom') and 'requests.api' in __import__('sys').modules"
    by_a_rule = "__import__('requests').__name__"
    with closing(ProcessPool(1)) as pool:
        assert dict(pool.each(eval, [question, by_a_rule])) == {question: False, by_a_rule: "requests"}
