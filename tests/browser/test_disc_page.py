"""INDEX.HTM of a disc in a real browser: everything of it is seen, on a small screen too."""

import pytest
from support.machine.chromium import chromium
from support.studies.discs import MADE_AT

from pipeline.disc.model import CD, DiscOptions, DiscPatient, SeriesOnDisc, StudyOnDisc
from pipeline.disc.pages.disc_pages import INDEX, PageData, pages

pytestmark = pytest.mark.programs

NEEDS = """[...document.querySelectorAll("td, th, p, strong")].filter(
  one => one.getBoundingClientRect().right > window.innerWidth).length"""


def a_page() -> bytes:
    series = tuple(
        SeriesOnDisc(f"1.2.3.{number}", str(number), modality, description, 512)
        for number, (modality, description) in enumerate(
            [("CT", "Abdomen venous 5.0 B31f"), ("NM", "X" * 64), ("SR", "")]
        )
    )
    study = StudyOnDisc("1.2.3", "A77421", "20240102", "CT abdomen with contrast", "Hospital", series)
    patient = DiscPatient("Doe^Jane", "P1", "", "19570312", "F")
    page_data = PageData((patient,), (study,), (), (), {}, {}, "20240102_1234567", CD, DiscOptions(MADE_AT))
    return pages(page_data)[INDEX]


@pytest.mark.parametrize("width", [360, 500, 1200])
def test_no_column_of_a_disc_s_page_is_cut_off(width, tmp_path):
    (tmp_path / INDEX).write_bytes(a_page())
    with chromium(tmp_path / "chromium") as browser:
        tab = browser.tab()
        tab.say("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        tab.open((tmp_path / INDEX).as_uri())
        assert tab.run(NEEDS) == 0
        assert tab.run("document.documentElement.scrollWidth") == width


@pytest.mark.parametrize(("width", "said"), [(360, "Objects/Objetos:512"), (1200, "512")])
def test_a_number_is_named_where_the_heads_of_the_columns_have_no_room(width, said, tmp_path):
    (tmp_path / INDEX).write_bytes(a_page())
    with chromium(tmp_path / "chromium") as browser:
        tab = browser.tab()
        tab.say("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        tab.open((tmp_path / INDEX).as_uri())
        assert "".join(tab.run("document.querySelector('td.count').innerText").split()) == said
        row = "document.querySelector('td.count').parentElement.getBoundingClientRect().width"
        assert tab.run(row) > 0.75 * width
