"""[[route]] is read once into what cannot be wrong, and matches by what an instance was received with."""

import pytest
from support.sites.line_site import RECEIVER, settings_for

from pipeline.config.route_tables import RouteFacts, RouteTable
from pipeline.errors import Configuration
from pipeline.site.settings import load

SR = "1.2.840.10008.5.1.4.1.1.88.33"
CT = RouteFacts("modalities", "CT1", "STORESTOW", "10.1.2.3", "CT", "1.2.840.10008.5.1.4.1.1.2", "HEAD")


@pytest.mark.parametrize(
    ("conditions", "matches"),
    [
        ({}, True),
        ({"calling_ae_title": "CT*"}, True),
        ({"calling_ae_title": "ct*"}, False),
        ({"called_ae_title": "STORE*"}, True),
        ({"peer": "10.1.*"}, True),
        ({"peer": "10.2.*"}, False),
        ({"receiver": "modalities", "modality": "[CM][TR]"}, True),
        ({"modality": "CT", "body_part": "CHEST"}, False),
        ({"body_part": "HEAD"}, True),
        ({"sop_class": "1.2.840.10008.5.1.4.1.1.2"}, True),
        ({"sop_class": "CT Image Storage"}, True),
        ({"sop_class": "*SR Storage"}, False),
    ],
)
def test_every_condition_that_is_written_must_be_met(conditions, matches):
    assert RouteTable(to=("archive",), **conditions).matches(CT) is matches


def test_a_structured_report_is_found_by_the_name_of_its_class():
    facts = RouteFacts("modalities", "CT1", "STORESTOW", None, "SR", SR)
    assert RouteTable(to=("a",), sop_class="*SR Storage").matches(facts)


def test_what_is_not_known_meets_no_condition_not_even_the_star():
    facts = RouteFacts("modalities", "CT1", "STORESTOW")
    for condition in ("peer", "modality", "sop_class", "body_part"):
        assert not RouteTable(to=("a",), **{condition: "*"}).matches(facts), condition


def read(folder, text: str):
    file = folder / "site.toml"
    file.write_text(
        f'[site]\nspool = "{folder}/spool"\n'
        '[[receiver]]\nname = "modalities"\nae_title = "S"\nport = 11112\nto = ["archive"]\n'
        '[[receiver]]\nname = "cdrecord"\nae_title = "C"\nport = 11113\ncoerce = false\n'
        '[[destination]]\nname = "archive"\nkind = "null"\n'
        '[pacs]\nae_title = "P"\nhost = "127.0.0.1"\nport = 104\ncalling_ae_title = "C"\nreceiver = "cdrecord"\n'
        f"{text}"
    )
    return load(file)


@pytest.mark.parametrize(
    ("route", "said"),
    [
        ('to = ["archiv"]', "route number 1: to names archiv, but the destinations are archive; did you mean"),
        ("to = []", "route number 1.to"),
        ('to = ["archive", "archive"]', "it names archive twice"),
        ('to = ["archive"]\nencode = "j3k"', 'encode = "j3k" is none of'),
        ('to = ["archive"]\nreceiver = "cdrecord"', "the receiver of [pacs]"),
        ('to = ["archive"]\nmodalty = "CT"', "unknown key; did you mean modality?"),
    ],
)
def test_a_route_that_leads_nowhere_is_refused_with_its_number(tmp_path, route, said):
    with pytest.raises(Configuration) as refused:
        read(tmp_path, f"[[route]]\n{route}\n")
    assert said in str(refused.value)


def test_a_receiver_that_does_not_coerce_takes_no_route(tmp_path):
    other = {**RECEIVER, "name": "other", "coerce": False}
    with pytest.raises(ValueError, match="coerce = false"):
        settings_for(tmp_path, receivers=[other], routes=[{"to": ["nowhere"], "receiver": "other"}])
