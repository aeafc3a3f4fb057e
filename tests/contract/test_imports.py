"""What a process that only waits may not load: it would be held for as long as the site is up."""

import subprocess
import sys

import pytest

from pipeline import destinations

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
