"""What `storestow check` says of single parts of a site."""

import pytest
from support.sites.fleet_sites import fleet_site, report
from support.sites.line_site import settings_for

from pipeline.commands import check
from pipeline.fleet import fleet_watch
from pipeline.fleet.ask_site import SiteAnswer


@pytest.mark.parametrize(
    ("url", "is_noted"),
    [
        ("http://north.example", True),
        ("HTTP://north.example", True),
        ("https://north.example", False),
        ("HTTP://LocalHost:8090", False),
    ],
)
def test_a_site_that_is_asked_in_the_clear_is_noted_however_its_address_is_written(
    tmp_path, monkeypatch, url, is_noted
):
    monkeypatch.setattr(fleet_watch, "ask_site", lambda _table: SiteAnswer(report()))
    settings = settings_for(tmp_path).model_copy(update={"fleet": [fleet_site(tmp_path, "north", 1, url=url)]})
    levels = [finding.level for finding in check._fleet(settings)]
    assert levels == ["ok", *(["note"] if is_noted else [])]
