"""Where an instance goes: every matching route counts, what matches none goes where its receiver says."""

from itertools import permutations

import pytest
from support.sites.line_site import RECEIVER, settings_for

from pipeline.config.route_tables import RouteFacts
from pipeline.site.routing import Routing
from pipeline.site.settings import Settings


def site(folder, *routes, to=("archive",), coerce=True) -> Settings:
    (folder / "discs").mkdir(exist_ok=True)
    destinations = [
        {"name": "archive", "kind": "null", "encode": "j2k"},
        {"name": "teaching", "kind": "null"},
        {"name": "burner", "kind": "iso", "folder": str(folder / "discs")},
    ]
    receiver = {**RECEIVER, "to": list(to), "coerce": coerce}
    return settings_for(folder, destinations=destinations, receivers=[receiver], routes=routes)


def facts(modality: str, **more) -> RouteFacts:
    return RouteFacts("modalities", "CT1", "STORESTOW", None, modality, **more)


def ways(settings: Settings, *study: RouteFacts) -> list[list[tuple[str, str, str]]]:
    routing = Routing(settings, settings.receiver[0], study)
    return [[(way.destination, way.encode, way.by) for way in routing.of(one)] for one in study]


def test_without_routes_everything_goes_where_the_receiver_says(tmp_path):
    assert ways(site(tmp_path), facts("CT")) == [[("archive", "j2k", "receiver modalities")]]


def test_what_matches_none_goes_where_the_receiver_says_and_what_matches_does_not(tmp_path):
    settings = site(tmp_path, {"modality": "CT", "to": ["teaching"]})
    assert ways(settings, facts("CT"), facts("MR")) == [
        [("teaching", "none", "route 1")],
        [("archive", "j2k", "receiver modalities")],
    ]


def test_every_matching_route_counts_and_each_destination_once(tmp_path):
    settings = site(tmp_path, {"modality": "CT", "to": ["teaching"]}, {"to": ["archive", "teaching"]})
    assert ways(settings, facts("CT")) == [[("teaching", "none", "route 1"), ("archive", "j2k", "route 2")]]


def test_the_first_matching_route_that_names_an_encode_decides(tmp_path):
    routes = [{"to": ["archive"]}, {"to": ["archive"], "encode": "htj2k"}, {"to": ["archive"], "encode": "none"}]
    assert ways(site(tmp_path, *routes), facts("CT")) == [[("archive", "htj2k", "route 2")]]


def test_where_nothing_matches_and_the_receiver_names_none_it_goes_nowhere(tmp_path):
    settings = site(tmp_path, {"modality": "CT", "to": ["teaching"]}, to=())
    assert ways(settings, facts("MR")) == [[]]


def test_a_disc_gets_the_whole_study_as_soon_as_one_instance_goes_there(tmp_path):
    settings = site(tmp_path, {"modality": "CT", "to": ["burner"]})
    assert ways(settings, facts("MR"), facts("CT")) == [
        [("archive", "j2k", "receiver modalities"), ("burner", "none", "route 1")],
        [("burner", "none", "route 1")],
    ]
    assert ways(settings, facts("MR")) == [[("archive", "j2k", "receiver modalities")]]


def test_a_disc_that_the_receiver_names_gets_the_whole_study_too(tmp_path):
    settings = site(tmp_path, {"modality": "CT", "to": ["archive"]}, to=["burner"])
    assert [[way[0] for way in some] for some in ways(settings, facts("MR"), facts("CT"))] == [
        ["burner"],
        ["archive", "burner"],
    ]
    assert ways(settings, facts("CT")) == [[("archive", "j2k", "route 1")]]


@pytest.mark.parametrize("names", [*permutations(["archive", "teaching", "burner"])])
def test_destinations_of_the_whole_study_come_in_the_order_of_their_route(tmp_path, names):
    settings = site(tmp_path, {"modality": "CT", "to": names, "whole_study": True}, to=())
    assert [way[0] for way in ways(settings, facts("MR"), facts("CT"))[0]] == list(names)


@pytest.mark.parametrize("whole_study", [True, False])
def test_a_route_may_ask_for_the_whole_study(tmp_path, whole_study):
    settings = site(tmp_path, {"modality": "CT", "to": ["teaching"], "whole_study": whole_study})
    found = ways(settings, facts("MR"), facts("CT"))
    assert (("teaching", "none", "route 1") in found[0]) is whole_study


def test_a_receiver_that_does_not_coerce_knows_no_routes(tmp_path):
    settings = site(tmp_path, {"to": ["teaching"]}, coerce=False)
    assert ways(settings, facts("CT")) == [[("archive", "j2k", "receiver modalities")]]
