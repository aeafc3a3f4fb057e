"""`check` says which route can never match, and where two of them meet in different encodings."""

import pytest
from support.sites.line_site import RECEIVER, settings_for

from pipeline.commands.route_checks import route_findings


def said(folder, *routes, **receiver) -> str:
    settings = settings_for(folder, receivers=[{**RECEIVER, **receiver}], routes=routes)
    return "\n".join(f"{name}: {level}: {text}" for name, (level, text, *_) in route_findings(settings))


@pytest.mark.parametrize(
    ("route", "why"),
    [
        ({"modality": "ct"}, "modality: such values are in upper case: write CT"),
        ({"body_part": "Head*"}, "body_part: such values are in upper case: write HEAD*"),
        ({"modality": "COMPUTED TOMOGRAPHY"}, "modality: a value has 1 to 16 characters"),
        ({"calling_ae_title": "CT_SCANNER_NUMBER_1"}, "calling_ae_title: a value has 1 to 16 characters"),
        ({"peer": "10.1.2.*"}, "know no addresses"),
        ({"called_ae_title": "OTHER"}, "in study mode it is the receiver's own, STORESTOW"),
        ({"sop_class": "CT Picture"}, "sop_class: no SOP Class of the standard"),
        ({"receiver": "nobody*"}, "no receiver named nobody* has coerce = true"),
    ],
)
def test_a_route_that_can_never_match_is_an_error(tmp_path, route, why):
    (line,) = said(tmp_path, {"to": ["nowhere"], **route}).splitlines()
    assert line.startswith("route 1: error: it can never match: ")
    assert why in line


@pytest.mark.parametrize(
    "route",
    [
        {},
        {"modality": "[CM][TR]", "body_part": "HEAD"},
        {"called_ae_title": "STORE*"},
        {"sop_class": "1.2.3.4.5"},
        {"sop_class": "*SR Storage"},
        {"calling_ae_title": "CT?"},
    ],
)
def test_a_route_that_may_match_is_well(tmp_path, route):
    assert said(tmp_path, {"to": ["nowhere"], **route}) == "route 1: ok: to nowhere"


def test_an_address_can_match_in_association_mode(tmp_path):
    assert "error" not in said(tmp_path, {"to": ["nowhere"], "peer": "10.1.*"}, mode="association")


def test_two_encodings_for_one_destination_are_told(tmp_path):
    found = said(tmp_path, {"to": ["nowhere"], "encode": "j2k"}, {"to": ["nowhere"], "encode": "none"})
    assert "route 2: note: route 1 and route 2 both lead to nowhere" in found
