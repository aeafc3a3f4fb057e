"""The site's configuration: one TOML file, parsed once into values that cannot be wrong (docs/design.md)."""

import difflib
import tomllib
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ValidationError, ValidationInfo, model_validator

from pipeline import destinations
from pipeline.config.alarm_tables import AlarmTable
from pipeline.config.cluster_table import ClusterTable
from pipeline.config.fleet_tables import FleetSiteTable
from pipeline.config.keys import Table
from pipeline.config.order_tables import PacsTable, PatientsTable, ShimTable
from pipeline.config.program_tables import ProgramsTable
from pipeline.config.receiver_tables import ReceiverTable
from pipeline.config.route_tables import RouteTable
from pipeline.config.site_table import CoercionTable, SiteTable
from pipeline.destinations import Destination, OnDiscs
from pipeline.dicom.placeholders import PLACEHOLDERS
from pipeline.errors import Configuration
from pipeline.spool.spool import Spool

DEFAULT_FILES = (Path("site.toml"), Path("/etc/storestow/site.toml"))
KIND_OF_LINK = {"download": "iso", "print": "cstore"}  # Where a key of [shim] has a default, the kind of it.


def _require_usable_senders(pacs: PacsTable, receiver: ReceiverTable) -> None:
    """Raise ValueError if an entry of `senders` cannot match anything in the mode of the receiver of orders."""
    for sender in pacs.senders:
        if receiver.mode == "association" and sender.address is None:
            raise ValueError(
                f'pacs: senders names the AE title {sender.ae_title} alone, but the receiver "{receiver.name}" '
                "knows the address of each peer, and that decides: write its address, too"
            )
        if receiver.mode != "association" and sender.ae_title is None:
            raise ValueError(
                f'pacs: senders names the address {sender.address} alone, but the receiver "{receiver.name}" '
                'knows no addresses: write the calling AE title, or mode = "association" for the receiver'
            )


def _destination(table: Any, info: ValidationInfo) -> Destination:
    site = info.data.get("site")
    placeholders = site.placeholder_ids if site else PLACEHOLDERS
    on_discs = _on_discs(site, info.data["folder"]) if site and "folder" in info.data else None
    return destinations.from_table(table, info.data.get("programs"), placeholders, on_discs)


def _on_discs(site: SiteTable, folder: Path) -> OnDiscs:
    return OnDiscs(site.disc_languages, site.name, folder / site.logo if site.logo else None)


class Settings(Table):
    """The whole configuration file; relative paths in it start at `folder`."""

    folder: Path
    site: SiteTable
    programs: ProgramsTable = ProgramsTable()
    receiver: tuple[ReceiverTable, ...] = ()
    destination: tuple[Annotated[Destination, BeforeValidator(_destination)], ...] = ()
    coercion: tuple[CoercionTable, ...] = ()
    route: tuple[RouteTable, ...] = ()
    pacs: PacsTable | None = None
    shim: ShimTable = ShimTable()
    patients: PatientsTable = PatientsTable()
    alarm: AlarmTable = AlarmTable()
    fleet: tuple[FleetSiteTable, ...] = ()
    cluster: ClusterTable | None = None

    @model_validator(mode="after")
    def _names_fit_together(self) -> Self:
        for kind, names in (
            ("receiver", [r.name for r in self.receiver]),
            ("destination", [d.name for d in self.destination]),
            ("fleet", [f.name for f in self.fleet]),
        ):
            twice = {name for name in names if names.count(name) > 1}
            if twice:
                raise ValueError(f"two [[{kind}]] tables are named {', '.join(sorted(twice))}")
        ports = [r.port for r in self.receiver]
        if len(set(ports)) < len(ports):
            raise ValueError("two receivers share a port")
        known = [d.name for d in self.destination]
        for receiver in self.receiver:
            for name in receiver.to:
                if name not in known:
                    raise ValueError(
                        f"receiver {receiver.name}: to names {name}, but the destinations are "
                        f"{', '.join(known) or 'none'}{_nearest(name, known)}"
                    )
        return self

    @model_validator(mode="after")
    def _orders_fit_together(self) -> Self:
        if self.pacs:
            receiver = next((r for r in self.receiver if r.name == self.pacs.receiver), None)
            if receiver is None:
                names = [r.name for r in self.receiver]
                raise ValueError(f"pacs: receiver names {self.pacs.receiver}{_nearest(self.pacs.receiver, names)}")
            if receiver.coerce or receiver.to:
                raise ValueError(
                    f'receiver "{receiver.name}": what the PACS sends for an order leaves as it was sent, '
                    "and where the order says: write coerce = false and to = []"
                )
            _require_usable_senders(self.pacs, receiver)
        known = [d.name for d in self.destination]
        for key, wanted in self.shim.destinations.items():
            for name in wanted:
                if name not in known:
                    raise ValueError(
                        f"shim: {key} names {name}, but the destinations are "
                        f"{', '.join(known) or 'none'}{_nearest(name, known)}"
                    )
        return self

    @model_validator(mode="after")
    def _routes_lead_somewhere(self) -> Self:
        known, by_name = [d.name for d in self.destination], {r.name: r for r in self.receiver}
        for number, route in enumerate(self.route, 1):
            for name in route.to:
                if name not in known:
                    raise ValueError(
                        f"route number {number}: to names {name}, but the destinations are "
                        f"{', '.join(known) or 'none'}{_nearest(name, known)}"
                    )
            named = by_name.get(route.receiver or "")
            if self.pacs and route.receiver == self.pacs.receiver:
                raise ValueError(
                    f"route number {number}: receiver names {route.receiver}, the receiver of [pacs]: what the "
                    "PACS sends for an order goes where the order says, and no route applies to it"
                )
            if named is not None and not named.coerce:
                raise ValueError(
                    f"route number {number}: receiver names {route.receiver}, which has coerce = false: routes "
                    "apply to receivers that coerce"
                )
        return self

    @model_validator(mode="after")
    def _heartbeat_study_can_be_sent(self) -> Self:
        if self.alarm.heartbeat is None:
            return self
        name = self.alarm.heartbeat.receiver
        receiver = next((r for r in self.receiver if r.name == name), None)
        if receiver is None:
            raise ValueError(
                f"alarm: heartbeat names the receiver {name}{_nearest(name, [r.name for r in self.receiver])}"
            )
        goes_nowhere = not receiver.to and not self.route
        if receiver.tls is not None or goes_nowhere or (self.pacs and self.pacs.receiver == name):
            raise ValueError(
                f'alarm: heartbeat names the receiver "{name}"; it needs one without tls that delivers '
                "somewhere (to, or a route), and not the one of [pacs]"
            )
        return self

    @model_validator(mode="after")
    def _cluster_has_a_server_and_a_store(self) -> Self:
        if self.cluster is None:
            return self
        if not self.site.ledger:
            raise ValueError(
                "cluster: several nodes need one ledger on a server: write the address of a PostgreSQL database "
                "as [site] ledger, or leave [cluster] out"
            )
        spool, store = self.site.spool, self.cluster.store
        if spool.is_relative_to(store) or store.is_relative_to(spool):
            raise ValueError(
                f"cluster: store {store} and [site] spool {spool} must not contain each other: the spool is this "
                "node's own, and the store belongs to all"
            )
        return self

    @property
    def spool(self) -> Spool:
        """Return the rooms: which of them this node has for itself, and which all nodes share."""
        return Spool(self.site.spool, self.cluster.store if self.cluster else None)

    @property
    def has_shim(self) -> bool:
        """Say whether there is a [shim], so that HTTP is wanted."""
        return "shim" in self.model_fields_set

    @property
    def link_destinations(self) -> dict[str, tuple[str, ...]]:
        """Return the destinations that links may mean, by the key of [shim]; empty where none is named, nor clear.

        A key that is not written means the only destination of its kind, unless something else is sent there: the
        only peer may be another hospital, which must not get what was to be printed.
        """
        of_kind = {key: self.destinations_of_kind(kind) for key, kind in KIND_OF_LINK.items()}
        only = {
            key: names
            for key, names in of_kind.items()
            if len(names) == 1 and not self.destinations_of_others.intersection(names)
        }
        return {key: named or only.get(key, ()) for key, named in self.shim.destinations.items()}

    @property
    def destinations_of_others(self) -> frozenset[str]:
        """Return the destinations that receivers, routes or forward links name."""
        used = [
            self.shim.forward,
            *(receiver.to for receiver in self.receiver),
            *(route.to for route in self.route),
        ]
        return frozenset().union(*used)

    def destinations_of_kind(self, kind: str) -> tuple[str, ...]:
        """Return the names of the destinations of this kind."""
        return tuple(destination.name for destination in self.destination if destination.kind == kind)

    @property
    def moves_at_once(self) -> int:
        """Return the number of parallel retrievals: a storescp in study mode serves one at a time."""
        if self.pacs is None:
            return 1
        return self.pacs.moves_at_once if self.receiver_named(self.pacs.receiver).mode == "association" else 1

    def receiver_named(self, name: str) -> ReceiverTable:
        """Return the receiver `name`; raises Configuration, which names the nearest one."""
        for receiver in self.receiver:
            if receiver.name == name:
                return receiver
        raise Configuration(f"no receiver is named {name}{_nearest(name, [r.name for r in self.receiver])}")

    def destination_named(self, name: str) -> Destination:
        """Return the destination `name`; raises Configuration, which names the nearest one."""
        for destination in self.destination:
            if destination.name == name:
                return destination
        raise Configuration(f"no destination is named {name}{_nearest(name, [d.name for d in self.destination])}")

    @property
    def logo(self) -> Path | None:
        """Return the hospital's logo, None if the site has none."""
        return self.beside(self.site.logo) if self.site.logo else None

    @property
    def on_discs(self) -> OnDiscs:
        """Return what [site] says of the pages of discs."""
        return _on_discs(self.site, self.folder)

    def beside(self, path: Path) -> Path:
        """Return `path`; a relative one is taken from the folder of the configuration file."""
        return self.folder / path


def site_file(path: Path | None) -> Path:
    """Return the configuration file to read; raises Configuration if there is none."""
    file = path or next((p for p in DEFAULT_FILES if p.exists()), None)
    if file is None:
        raise Configuration(
            "no configuration: ./site.toml and /etc/storestow/site.toml do not exist; use --site FILE"
        )
    return file.absolute()


def load(path: Path | None = None) -> Settings:
    """Read the configuration at `path`, else ./site.toml, else /etc/storestow/site.toml.

    Raises Configuration with one line for each mistake: file, key and remedy.
    """
    file = site_file(path)
    try:
        return parsed(file.read_text(encoding="utf-8"), file)
    except (OSError, UnicodeDecodeError) as error:
        raise Configuration(f"{file}: cannot be read: {error}") from error


def parsed(text: str, file: Path) -> Settings:
    """Return the configuration that `text` describes, as if it stood in `file`; raises Configuration as `load`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise Configuration(f"{file}: is not TOML: {error}") from error
    try:
        return Settings.model_validate({**table, "folder": file.parent})
    except ValidationError as error:
        raise Configuration("\n".join(f"{file}: {line}" for line in _sentences(error, table))) from error


def _sentences(error: ValidationError, table: dict[str, Any]) -> list[str]:
    """Render pydantic's findings as sentences that name the key as TOML spells it."""
    lines = []
    for found in error.errors():
        where = _toml_path(found["loc"], table)
        if found["type"] == "extra_forbidden":
            known = _known_keys(found["loc"], table)
            lines.append(f"{where}: unknown key{_nearest(str(found['loc'][-1]), known)}")
        else:
            lines.append(f"{where}: {found['msg'].removeprefix('Value error, ')}")
    return lines


def _toml_path(loc: tuple[int | str, ...], table: dict[str, Any]) -> str:
    """Return `receiver "modalities".port` rather than `receiver.0.port`."""
    words: list[str] = []
    here: Any = table
    for step in loc:
        try:
            here = here[step]
        except (KeyError, IndexError, TypeError):
            here = None
        if isinstance(step, int):
            name = here.get("name") if isinstance(here, dict) else None
            words[-1] += f' "{name}"' if name else f" number {step + 1}"
        else:
            words.append(step)
    return ".".join(words) or "the file"


def _known_keys(loc: tuple[int | str, ...], table: dict[str, Any]) -> list[str]:
    """Return the keys of the table that holds an unknown key; none for a table within a table."""
    tables: dict[str, type[BaseModel]] = {
        "site": SiteTable,
        "programs": ProgramsTable,
        "receiver": ReceiverTable,
        "coercion": CoercionTable,
        "route": RouteTable,
        "pacs": PacsTable,
        "shim": ShimTable,
        "patients": PatientsTable,
        "cluster": ClusterTable,
        "alarm": AlarmTable,
        "fleet": FleetSiteTable,
    }
    *parents, _ = loc
    names = [step for step in parents if isinstance(step, str)]
    if names == ["destination"]:
        return list(destinations.model_of(table["destination"][parents[1]]["kind"]).model_fields)
    if not names:
        return [key for key in Settings.model_fields if key != "folder"]
    return list(tables[names[0]].model_fields) if len(names) == 1 and names[0] in tables else []


def _nearest(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""
