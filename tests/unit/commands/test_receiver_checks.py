"""`check` says of each receiver what is wrong, and which mode the site wants there."""

import time
from pathlib import Path

import pytest
from support.machine.dicom_programs import free_port

from pipeline.commands.receiver_checks import receiver_findings, refused_classes
from pipeline.dcmtk.profile import study_sop_classes
from pipeline.dcmtk.sop_classes import SHIPPED
from pipeline.ledger import FILE_NAME, Ledger, arrivals
from pipeline.ledger.scope import LINE
from pipeline.model import InstanceCode, InstanceState
from pipeline.site.settings import load
from pipeline.spool.spool import Spool


def said(folder: Path, *, receiver: str = "", more: str = "", mapping: str = "{}", site: str = "") -> str:
    (folder / "mapping.json").write_text(mapping)
    (folder / "site.toml").write_text(
        f'[site]\nspool = "{folder / "spool"}"\ninstitution_mapping = "mapping.json"\n{site}\n'
        f'[[receiver]]\nname = "r"\nae_title = "R"\nport = {free_port()}\n{receiver}\n{more}'
    )
    settings = load(folder / "site.toml")
    found = receiver_findings(settings, settings.receiver_named("r"), Spool(settings.site.spool))
    return "\n".join(f"{level}: {text}" for level, text, *_ in found)


@pytest.fixture
def folder(tmp_path):
    Spool(tmp_path / "spool").prepare()
    return tmp_path


def received(folder: Path, *titles: str, code: InstanceCode | None = None) -> None:
    """Enter an arrival of one instance from each of these calling AE titles."""
    ledger = Ledger(folder / "spool" / FILE_NAME)
    ledger.create()
    known = {"receiver": "r", "admitted_at": time.time(), "newest_file_at": 0.0}
    state = InstanceState.QUARANTINED if code else InstanceState.RECEIVED
    rows = [
        {"arrival": "1-r-1", "file": title, "state": state, "scope": LINE, "calling_ae_title": title}
        | {"called_ae_title": "R", "size": 1, "received_sha256": "", "code": code, "sop_instance_uid": f"1.{n}"}
        for n, title in enumerate(titles)
    ]
    with ledger.transaction() as change:
        arrivals.admit(change, {"name": "1-r-1", **known})
        arrivals.take_in(change, "1-r-1", rows)
    ledger.close()


def test_a_site_that_nothing_speaks_against_keeps_study_mode(folder):
    received(folder, "CT1")
    assert "ok: nothing of this site speaks against" in said(folder)
    assert "GEIIS" in said(folder)


def test_a_receiver_without_destination_says_when_its_studies_are_deleted(folder):
    assert "sent to nobody, and deleted after keep_originals (7 days)" in said(folder)
    assert "deleted" not in said(folder, receiver='to = ["n"]', more='[[destination]]\nname = "n"\nkind = "null"')


def test_several_senders_want_association_mode(folder):
    received(folder, "CT1", "MR1")
    assert 'wants mode = "association" here: 2 AE titles have sent here within 90 days' in said(folder)


def test_what_storescp_misread_wants_association_mode(folder):
    received(folder, "CT1", code=InstanceCode.MISREAD)
    assert "1 instances were set aside within 90 days because storescp misread them" in said(folder)


def test_addresses_in_the_mapping_want_association_mode(folder):
    assert "has addresses" in said(folder, mapping='{"192.0.2.7": "Hospital"}')
    assert "has addresses" not in said(folder, mapping='{"CT1": "Hospital"}')


def test_orders_want_association_mode(folder):
    pacs = '[pacs]\nae_title = "P"\nhost = "127.0.0.1"\nport = 1\ncalling_ae_title = "R"\nreceiver = "r"\n'
    assert "orders arrive here" in said(folder, receiver="coerce = false", more=pacs)


def test_nothing_is_said_of_modes_in_association_mode(folder):
    received(folder, "CT1", "MR1")
    assert "mode" not in said(folder, receiver='mode = "association"')


def test_a_receiver_that_lets_nameless_instances_through_says_so(folder):
    assert "require_patient = false" in said(folder, receiver="require_patient = false")


def test_a_node_of_several_is_told_what_a_proxy_hides(folder):
    cluster = f'[cluster]\nstore = "{folder}/store"\n'
    assert "behind a proxy" not in said(folder)
    found = said(folder, receiver='mode = "association"', site='ledger = "postgresql://h/d"', more=cluster)
    assert "allow_peers, max_associations_per_peer (32)" in found


def test_the_storage_classes_that_a_sites_own_push_out_are_named():
    more = [f"1.2.3.{n}" for n in range(20)]
    accepted, refused = study_sop_classes(more), refused_classes(more)
    assert {uid for uid in SHIPPED if uid not in accepted} <= set(refused)
    assert not set(refused) & set(accepted)
    assert refused[list(SHIPPED)[-1]] == "Corneal Topography Map Storage"
