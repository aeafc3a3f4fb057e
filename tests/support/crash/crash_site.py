"""A site whose worker and commands are killed at named points, and what must be true of it afterwards."""

import contextlib
import json
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import inspect, select
from support.crash.forking import Forked
from support.machine.dicom_programs import free_port, stop, wait_until
from support.peers.fake_dcm4chee import FakeDcm4chee
from support.sites.line_site import arrive, folder_of
from support.sites.running_site import NULL, write_site
from support.studies.fingerprints import Fingerprint, fingerprint, of_files, sha256

from pipeline.ledger import FILE_NAME, Ledger, accounts
from pipeline.ledger.tables import arrival, delivery, instance, receipt
from pipeline.spool.spool import Spool

NOWHERE = "no such point"
ROOMS = {"admitted": "arrivals", "processing": "arrivals", "settled": "settled", "quarantined": "quarantine"}
ENDED = {"delivered", "refused"}


def situations(record: Path) -> list[str]:
    """Return the points a run has reached, each once, in the order of their first time.

    A process that is killed after an fsync leaves what it leaves before it.
    """
    return [name for name in dict.fromkeys(record.read_text().splitlines()) if not name.startswith("after fsync")]


@dataclass
class CrashSite:
    """A site with three destinations: an archive, a folder, and nowhere."""

    folder: Path
    archive: FakeDcm4chee
    file: Path = Path("site.toml")
    sent: list[Path] = field(default_factory=list)
    kills: int = 0
    quiet_seconds: int = 1
    in_one_room: bool = True  # spare the pool's processes, which take longer to start than all the rest
    about_archive: dict[str, Any] = field(default_factory=dict)  # other or more keys of its table
    how: dict[str, Any] = field(default_factory=dict)  # what else holds for every process (see `forking.PLAIN`)
    orphans: set[Path] = field(default_factory=set)  # half copies at a destination when the ledger was lost

    @property
    def spool(self) -> Spool:
        return Spool(self.folder / "spool")

    @property
    def filed(self) -> Path:
        return self.folder / "filed"

    @property
    def destinations(self) -> list[dict[str, Any]]:
        return [
            {
                "name": "archive",
                "kind": "stow",
                "url": self.archive.url,
                "encode": "j2k",
                "batch_bytes": "64 KiB",
                **self.about_archive,
            },
            {"name": "filed", "kind": "folder", "folder": str(self.filed)},
            NULL,
        ]

    @property
    def log(self) -> Path:
        return self.folder / "work.log"

    def take_after(self, other: "CrashSite") -> None:
        """Take over everything another site, at which nothing runs, holds and has delivered."""
        shutil.copytree(other.spool.root, self.spool.root)
        shutil.copytree(other.filed, self.filed)
        shutil.copyfile(other.log, self.log)
        self.sent += other.sent
        for name in ("stored", "sendings", "there_since", "sha256", "keys", "received", "failing", "fail_times"):
            setattr(self.archive, name, copy(getattr(other.archive, name)))

    def lose_the_ledger(self) -> None:
        """Delete the ledger, and remember which copies were under way that no delivery is known for any more."""
        self.orphans |= set(_half_made(self.filed))
        for file in self.spool.root.glob(f"{FILE_NAME}*"):
            file.unlink()

    def arrive(self, *files: Path) -> str:
        """Admit copies of these files as the hook would; return the arrival's name."""
        self.sent += files
        return arrive(self.spool, *files)

    def leave(self, *files: Path) -> None:
        """Leave copies of these files in a folder that nobody has announced yet."""
        self.sent += files
        folder_of(self.spool, *files)

    def start(self, *words: str, point: str = NOWHERE, **how: Any) -> Forked:
        """Start a command that is killed at a point, or does there what `how` says (see `killed_at`)."""
        about = {"in_one_room": self.in_one_room, "log": str(self.log), "point": point}
        return Forked({**self.how, **how, **about, "words": ["--site", str(self.file), *words]})

    def configure(self, **keys: Any) -> None:
        """Write the site's configuration anew, with these keys of [site]."""
        receiver = {
            "name": "modalities",
            "ae_title": "STORESTOW",
            "port": free_port(),
            "quiet_seconds": self.quiet_seconds,
        }
        site = {"workers": 1, **keys}
        self.file = write_site(self.folder, receivers=[receiver], destinations=self.destinations, site=site)

    # --- running and killing ----------------------------------------------------------------------------

    def killed(self, *words: str, point: str, count: int = 1, until: Callable[[], object] = lambda: True) -> bool:
        """Run a command, or the worker until it has nothing to do; say whether it died at the point."""
        until = until if words == ("work",) else lambda: False
        code = self._ended(words, until, point=point, count=count)
        assert code in {0, -signal.SIGKILL}, f"ended with {code}\n{self.text()}"
        self.kills += code == -signal.SIGKILL
        self.let_the_archive_finish()
        return code == -signal.SIGKILL

    def lost_power(self, *, point: str) -> bool:
        """Kill the worker at the point, and leave of the ledger what was flushed by then; say whether it died."""
        flushed = self.folder / "flushed"
        self.how["flushed"] = str(flushed)
        is_dead = self.killed("work", point=point)
        del self.how["flushed"]
        if is_dead:
            for file in self.spool.root.glob(f"{FILE_NAME}*"):
                file.unlink()
            for file in flushed.iterdir():
                shutil.copyfile(file, self.spool.root / file.name)
        return is_dead

    def ended(self, *, point: str, count: int = 1) -> None:
        """Run the worker, end it as an operator does when it is at the point, and see it end well."""
        code = self._ended(("work",), lambda: False, point=point, count=count, by=signal.SIGTERM)
        assert code == 0, f"ended with {code}\n{self.text()}"

    def work(self, until: Callable[[], object] = lambda: True) -> None:
        """Run the worker until everything has an end, and `until` holds; stop it as an operator does."""
        code = self._ended(("work",), until)
        assert code == 0, f"ended with {code}\n{self.text()}"

    def run(self, *words: str) -> None:
        """Run a command to its end, which must be a good one."""
        code = self._ended(words, lambda: False)
        assert code == 0, f"ended with {code}\n{self.text()}"

    def _ended(self, words: Sequence[str], until: Callable[[], object], **how: Any) -> int:
        """Run a command until it ends, or nothing waits any more and `until` holds; return its exit code."""
        starts = self._starts()
        process = self.start(*words, **how)
        try:
            wait_until(
                lambda: process.poll() is not None or (self._starts() > starts and self.is_at_rest() and until()),
                seconds=60,
            )
        except AssertionError as error:
            raise AssertionError(f"{error}: {self.text()}") from error
        finally:
            code = stop(process)
        return code

    def _starts(self) -> int:
        return self.log.read_text(errors="replace").count("worker-started")

    def let_the_archive_finish(self) -> None:
        """Return when the archive has stored what it was sent before the sender died."""
        wait_until(lambda: self.archive.at_once == 0, what="the archive")

    def text(self) -> str:
        return self.log.read_text(errors="replace")[-8000:]

    # --- looking ----------------------------------------------------------------------------------------

    def rows(self, table: Any) -> list[dict[str, Any]]:
        """Return a table of the ledger, nothing where there is none yet."""
        if not (self.spool.root / FILE_NAME).exists():
            return []
        ledger = Ledger(self.spool.root / FILE_NAME)
        try:
            with ledger.reading() as look:
                is_begun = inspect(look).has_table(table.name)
                return [dict(row._mapping) for row in look.execute(select(table))] if is_begun else []
        finally:
            ledger.close()

    def is_at_rest(self) -> bool:
        """Say whether nothing that arrived waits any more, but for what only a person can set going again."""
        try:
            arrivals, instances, receipts = self.rows(arrival), self.rows(instance), self.rows(receipt)
            open_ones = {row["id"]: row for row in self.rows(delivery) if row["state"] not in ENDED}
        except Exception:  # its tables are being made, or it is being moved aside
            return False
        if not all(row["held"] for row in open_ones.values()):
            return False
        held = {row["instance"] for row in receipts if row["delivery"] in open_ones}
        may_wait = {row["arrival"] for row in instances if row["id"] in held}
        waiting = {row["name"] for row in arrivals if row["state"] not in {"settled", "quarantined"}}
        folders = {folder.name for folder in self.spool.arrivals.iterdir()}
        is_taken_in = not any(row["state"] == "received" for row in instances)
        return bool(arrivals) and is_taken_in and folders == waiting and waiting <= may_wait

    def files(self) -> dict[tuple[str, str], Path]:
        """Return every received file that is kept, by arrival and name."""
        return {
            (file.parent.name, file.name): file
            for room in self.spool.rooms_of_arrivals
            for file in room.glob("*/*")
            if not file.name.startswith(".") and file.name != "account.json"
        }

    def outcome(self) -> dict[str, Any]:
        """Return how everything ended, in words that do not depend on when."""
        names = {row["id"]: row["received_sha256"] for row in self.rows(instance)}
        destinations = {row["id"]: row["destination"] for row in self.rows(delivery)}
        return {
            "arrivals": Counter((row["state"], row["reason"]) for row in self.rows(arrival)),
            "instances": Counter((row["received_sha256"], row["state"]) for row in self.rows(instance)),
            "receipts": {
                (destinations[row["delivery"]], names[row["instance"]], row["state"], row["verified"])
                for row in self.rows(receipt)
            },
        }

    # --- what must be true ------------------------------------------------------------------------------

    def assert_all_is_accounted_for(self) -> None:
        """Everything sent is at every destination or set aside, kept in one room, and in the ledger once."""
        self.assert_each_file_is_in_one_place()
        self.assert_the_ledger_agrees_with_the_rooms()
        self.assert_sent_is_delivered_or_set_aside()
        self.assert_the_archive_has_one_content_of_each()
        self.assert_accounts_are_valid()
        self.assert_nothing_temporary_is_left()
        assert "Traceback" not in self.log.read_text(errors="replace"), self.text()

    def assert_each_file_is_in_one_place(self) -> None:
        """Or has been let go, or discarded: then it is in none."""
        kept = Counter(sha256(file.read_bytes()) for file in self.files().values())
        gone = Counter(row["received_sha256"] for row in self.rows(instance) if self._is_gone(row))
        assert kept + gone == Counter(sha256(file.read_bytes()) for file in self.sent)

    def _is_gone(self, row: dict[str, Any]) -> bool:
        gone = {row["name"] for row in self.rows(arrival) if row["gone_at"]}
        return row["arrival"] in gone or row["discarded_at"] is not None

    def assert_the_ledger_agrees_with_the_rooms(self) -> None:
        for row in self.rows(arrival):
            present = [r.name for r in self.spool.rooms_of_arrivals if (r / row["name"]).is_dir()]
            assert present == ([] if row["gone_at"] else [ROOMS[row["state"]]]), row
            assert row["state"] in {"settled", "quarantined"}, row
        on_record = {(row["arrival"], row["file"]): row["received_sha256"] for row in self.rows(instance)}
        assert len(on_record) == len(self.rows(instance))
        gone = {(row["arrival"], row["file"]) for row in self.rows(instance) if self._is_gone(row)}
        kept = {key: sha256(file.read_bytes()) for key, file in self.files().items() if file.stat().st_size}
        assert kept == {key: content for key, content in on_record.items() if key not in gone}
        assert not [row for row in self.rows(instance) if row["state"] == "received"]
        assert {row["state"] for row in self.rows(delivery)} <= {"delivered", "refused"}

    def set_aside(self) -> set[Fingerprint]:
        by_hash = {sha256(file.read_bytes()): file for file in self.sent}
        aside = [row for row in self.rows(instance) if row["state"] in {"quarantined", "conflict"}]
        empty = [file for file in self.sent if not file.stat().st_size]
        return of_files([*(by_hash[row["received_sha256"]] for row in aside), *empty])

    def delivered(self) -> dict[str, set[Fingerprint]]:
        archived = {fingerprint(content) for content in self.archive.stored.values()}
        return {"archive": archived, "filed": of_files(self.filed.rglob("*.dcm"))}

    def assert_sent_is_delivered_or_set_aside(self) -> None:
        sent, aside = of_files(self.sent), self.set_aside()
        for name, delivered in self.delivered().items():
            assert delivered | aside == sent, name
            assert not delivered & aside, name
        receipts = Counter(row["destination"] for row in self.receipts_by_destination() if row["verified"])
        assert receipts == Counter(dict.fromkeys(("archive", "filed", "nowhere"), len(sent - aside)))

    def deliveries(self) -> list[dict[str, Any]]:
        return self.rows(delivery)

    def receipts_by_destination(self) -> list[dict[str, Any]]:
        destinations = {row["id"]: row["destination"] for row in self.rows(delivery)}
        return [{**row, "destination": destinations[row["delivery"]]} for row in self.rows(receipt)]

    def assert_the_archive_has_one_content_of_each(self) -> None:
        """No UID was ever sent with two contents, and none again that the archive had and would have listed."""
        contents: dict[str, set[str]] = {}
        for uid, content in self.archive.received:
            contents.setdefault(uid, set()).add(content)
        assert {uid: found for uid, found in contents.items() if len(found) > 1} == {}
        assert self.archive.duplicates == []

    def assert_accounts_are_valid(self) -> None:
        """Every folder that left the line says what the ledger says."""
        ledger = Ledger(self.spool.root / FILE_NAME)
        try:
            for row in self.rows(arrival):
                if row["gone_at"] is None:
                    folder = next(
                        r / row["name"] for r in self.spool.rooms_of_arrivals if (r / row["name"]).is_dir()
                    )
                    written = json.loads((folder / "account.json").read_bytes())
                    with ledger.reading() as look:
                        known = accounts.account_of(look, row["name"], 0, row["state"])
                    assert _comparable(written) == _comparable(json.loads(json.dumps(known))), folder.name
        finally:
            ledger.close()

    def assert_nothing_temporary_is_left(self, of_receivers: Collection[str] = ("modalities.lock",)) -> None:
        """Nothing half made is left, and nothing made for arrivals that have ended well.

        A copy that was under way when the process was killed bears the mark of its delivery. Where the ledger that
        knew the delivery was lost before the next attempt, the copy stays at the destination, hidden.
        """
        well = {row["name"] for row in self.rows(arrival)} - self.arrivals_not_well()
        assert not {folder.name for folder in self.spool.outputs.iterdir()} & well
        half_made = [*_half_made(self.spool.root), *_half_made(self.filed)]
        assert set(half_made) <= self.orphans
        left = {file.name for file in self.spool.run.iterdir() if not file.name.endswith(".commands.dic")}
        assert left <= {"worker.lock", *of_receivers}
        assert [left for room in self.spool.incoming.iterdir() for left in room.iterdir()] == []

    def arrivals_not_well(self) -> set[str]:
        aside = {row["arrival"] for row in self.rows(instance) if row["state"] in {"quarantined", "conflict"}}
        arrivals = {row["id"]: row["arrival"] for row in self.rows(instance)}
        return aside | {arrivals[row["instance"]] for row in self.rows(receipt) if not row["verified"]}


def _half_made(folder: Path) -> list[Path]:
    return [file for file in folder.rglob(".*") if file.name.endswith((".new", ".part"))]


def _comparable(account: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is numbered anew with a new ledger, and what is said of the arrival as a whole."""
    account["arrival"] = account["arrival"]["name"]
    for one in account["instances"]:
        del one["id"]
        for answer in one["deliveries"]:
            del answer["delivery"]["id"], answer["receipt"]["delivery"], answer["receipt"]["instance"]
    for tried in account["attempts"]:
        del tried["delivery"]
    account["attempts"].sort(key=lambda tried: tried["began_at"])
    return account


@contextlib.contextmanager
def crash_site(folder: Path, *, like: "CrashSite | None" = None, **keys: Any) -> Iterator[CrashSite]:
    """Write a site below `folder`, with an archive of its own and these keys of [site]; or as `like` stands."""
    with FakeDcm4chee() as archive:
        one = CrashSite(folder, archive)
        if like is None:
            one.filed.mkdir(parents=True)
        else:
            one.take_after(like)
        one.log.touch()
        one.configure(**keys)
        one.spool.prepare()
        yield one
