"""Three real sites and the one that shows them: one is killed, one hangs, one is replaced by a liar."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from subprocess import Popen

import psutil
import pytest
import requests
from support.machine.dicom_programs import free_port, running, wait_until
from support.sites.beating import beating
from support.sites.fleet_sites import STATUS_KEY, answer_of, answering
from support.sites.running_site import COMMAND, command
from support.sites.shim_site import BROWSER

from pipeline.fleet import fleet_watch
from pipeline.ledger import open_ledger
from pipeline.site.worker_state import sole_worker
from pipeline.spool.spool import Spool

pytestmark = [pytest.mark.programs, pytest.mark.sqlite_file]

OPERATOR_KEY = "an-operator-key"
NAMES = ("lies", "hangs", "killed", "well")


@dataclass
class Served:
    """A `storestow serve` of its own site."""

    file: Path
    port: int
    process: Popen[bytes]


@contextlib.contextmanager
def serving(folder: Path, shim: str, more: str = "") -> Iterator[Served]:
    """Run `storestow serve` on a spool whose worker is heard of."""
    folder.mkdir()
    Spool(folder / "spool").prepare()
    ledger, _ = open_ledger(folder / "spool")
    ledger.close()
    port, file = free_port(), folder / "site.toml"
    file.write_text(f'[site]\nspool = "{folder}/spool"\n[shim]\nport = {port}\n{shim}\n{more}')
    worker = sole_worker(Spool(folder / "spool"))
    argv = [*COMMAND, "--site", file, "serve"]
    with beating(folder / "spool"), worker, running(argv, log=folder / "log", port=port) as process:
        yield Served(file, port, process)


def table(folder: Path, name: str, port: int) -> str:
    return (
        f'[[fleet]]\nname = "{name}"\nurl = "http://127.0.0.1:{port}"\nkey_file = "{folder}/key"\n'
        'connect_timeout = "2s"\nanswer_timeout = "2s"\n'
    )


def test_one_is_killed_one_hangs_one_lies_and_the_page_shows_it_at_once(tmp_path, record_property):
    (tmp_path / "key").touch(0o600)
    (tmp_path / "key").write_text(STATUS_KEY)
    with contextlib.ExitStack() as stack:
        sites = {
            name: stack.enter_context(serving(tmp_path / name, f'status_key = "{STATUS_KEY}"')) for name in NAMES
        }
        fleet = "".join(table(tmp_path, name, site.port) for name, site in sites.items())
        shows = stack.enter_context(serving(tmp_path / "shows", f'operator_key = "{OPERATOR_KEY}"', fleet))
        page = stack.enter_context(requests.Session())
        page.headers.update(BROWSER)
        url = f"http://127.0.0.1:{shows.port}/operator"
        page.post(f"{url}/login", data={"name": "Ana", "key": OPERATOR_KEY}, timeout=20)

        def fleet_page() -> str:
            return page.get(f"{url}/fleet", timeout=20).text

        wait_until(lambda: fleet_page().count(">answers<") == 4, seconds=60, what="four sites that answer")
        sites["killed"].process.kill()
        stack.callback(psutil.Process(sites["hangs"].process.pid).resume)
        psutil.Process(sites["hangs"].process.pid).suspend()  # the kernel goes on taking connections for it
        sites["lies"].process.kill()
        sites["lies"].process.wait()
        stack.enter_context(answering(answer_of(b'{"version": "9"}'), port=sites["lies"].port))
        words = ("unreachable", "no answer in time", "answers nonsense")
        patience = 2 * fleet_watch.EVERY_SECONDS + 30
        text = wait_until(
            lambda: text if all(word in (text := fleet_page()) for word in words) else None,
            seconds=patience,
            what="the three to be missed",
        )
        order = sorted(NAMES, key=lambda name: text.index(f">{name}<"))
        assert order == ["hangs", "killed", "lies", "well"]
        assert "4 sites, 3 of them need a person" in text

        done = command(shows.file, "fleet", "--json")
        told = {site["name"]: site for site in json.loads(done.stdout)["sites"]}
        states = {name: site["state"] for name, site in told.items()}
        assert states == {"hangs": "no-reply", "killed": "unreachable", "lies": "malformed", "well": "up"}
        assert told["well"]["status"]["worker"] == "up"
        assert STATUS_KEY not in done.stdout
        shown = command(shows.file, "fleet")
        assert shown.returncode == 0
        record_property("table: storestow fleet", shown.stdout)
        checked = command(shows.file, "check").stdout
        assert "unreachable" in checked
        assert "fleet well" in checked
