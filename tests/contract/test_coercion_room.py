"""What every module of the coercion room must offer; a new rule is tested by being there."""

import pickle

import pytest
from support.sites import coercing
from support.studies import geiis

from pipeline import coercions
from pipeline.coercions import coerce, rules_of
from pipeline.model import Change

MODULES = coercions.modules()


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "map.json").write_text('{"CT1": "Clínica"}', encoding="utf-8")
    return coercing.site(
        tmp_path,
        institution_mapping="map.json",
        default_coercions="always",
        coercion=[{"set": {"StudyDescription": "Head"}, "remove": ["StudyID"]}],
    )


def test_the_rules_come_in_one_order_and_no_two_share_a_place():
    places = [module.PRECEDENCE for module in MODULES]
    assert places == sorted(set(places))
    names = [module.__name__.rpartition(".")[2] for module in MODULES]
    assert names == ["removals", "empty_values", "institution", "site_rules"]


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_a_module_s_rules_are_named_frozen_and_travel(module, settings):
    rules = module.rules(settings)
    assert rules
    for rule in rules:
        assert rule.name
        assert pickle.loads(pickle.dumps(rule)) == rule
        with pytest.raises((AttributeError, TypeError)):
            rule.name = "other"


@pytest.mark.parametrize("module", MODULES, ids=lambda m: m.__name__)
def test_proposing_changes_nothing(module, settings):
    header = coercing.header(geiis.file_of(geiis.with_thumbnail()))
    before = coercing.header_bytes(header)
    for rule in module.rules(settings):
        for change in rule.propose(header, coercing.origin()):
            assert isinstance(change, Change)
            assert change.rule == rule.name
            assert change.value == change.after
    assert coercing.header_bytes(header) == before


def test_a_rule_is_one_new_file(tmp_path, monkeypatch):
    (tmp_path / "a_new_rule.py").write_text(
        "from dataclasses import dataclass\n"
        "from pipeline.coercions import proposed_value\n"
        "PRECEDENCE = 50\n"
        "@dataclass(frozen=True)\n"
        "class New:\n"
        "    name: str = 'new'\n"
        "    def propose(self, dataset, origin):\n"
        "        yield proposed_value('StationName', 'ROOM 1', self.name)\n"
        "def rules(settings):\n"
        "    return [New()]\n"
    )
    monkeypatch.setattr(coercions, "__path__", [*coercions.__path__, str(tmp_path)])
    rules = rules_of(coercing.site())
    assert [rule.name for rule in rules][-1] == "new"
    header = coercing.header(geiis.file_of(geiis.ct()))
    assert "StationName" in {c.keyword for c in coerce(header, coercing.origin(), rules).changes}
