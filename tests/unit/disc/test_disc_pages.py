"""What a person reads on a disc: escaped, well-formed, in two languages, right in its numbers."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from support.studies.discs import MADE_AT, options

from pipeline.disc.model import ANY, CD, DiscPatient, LeftOut, SeriesOnDisc, StudyOnDisc
from pipeline.disc.pages import disc_pages
from pipeline.disc.pages.disc_pages import INDEX, README, PageData, checksums, pages, readable_date, readable_name
from pipeline.languages import languages
from pipeline.model import LeftOutCode

NASTY = "<script>alert(1)</script> & \"'\x00\x08\x1b[31m\ufffe"


def page_data(text: str = "Doe^Jane", **changed: object) -> PageData:
    more = changed.pop("options", {})
    study = StudyOnDisc(
        "1.2.3", "A1", "20260914", text, "Hospital", (SeriesOnDisc("1.2.3.1", "1", "CT", text, 20),)
    )
    values: dict[str, object] = {
        "patients": (DiscPatient(text, text, text, "19570312", "M"),),
        "studies": (study,),
        "left_out": (),
        "decoded_from": (),
        "pictures": {("1.2.3", "1.2.3.1"): "IHE_PDI/T0000001.JPG"},
        "whose": {},
        "volume_id": "20260914_1234567",
        "medium": CD,
        "options": options(**more),  # type: ignore[arg-type]
        **changed,
    }
    return PageData(**values)  # type: ignore[arg-type]


def index(**changed: object) -> str:
    return pages(page_data(**changed))[INDEX].decode("utf-8")  # type: ignore[arg-type]


def readme(**changed: object) -> str:
    return pages(page_data(**changed))[README].decode("utf-8-sig")  # type: ignore[arg-type]


def text_of(page: str) -> str:
    body = page[page.index("<body>") : page.index("</html>")]
    return " ".join("".join(ET.fromstring(body.replace("&#160;", " ")).itertext()).split())


def test_the_page_is_well_formed_and_nothing_a_peer_sent_is_markup():
    page = index(text=NASTY)
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    ET.fromstring(page[page.index("<html") :].replace("&#160;", " "))
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe]", page)
    assert not re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe]", readme(text=NASTY))


def test_the_page_shows_patient_study_series_and_picture():
    page = index()
    said = text_of(page)
    for word in ("Doe, Jane", "Born / Nacimiento: 1957-03-12", "2026-09-14", "CT / TC", "A1", "20"):
        assert word in said, word
    assert 'src="IHE_PDI/T0000001.JPG"' in page


def test_pages_whose_templates_were_loaded_compile_nothing(monkeypatch):
    disc_pages._environment.cache.clear()
    disc_pages.load_templates()
    monkeypatch.setattr(disc_pages._environment, "compile", lambda *_: pytest.fail("a template is compiled"))
    assert index()
    assert readme()


def test_the_page_needs_nothing_but_itself():
    assert set(re.findall(r'(?:src|href)="([^"]*)"', index())) == {"IHE_PDI/T0000001.JPG", "README.TXT"}


def test_a_series_without_picture_says_so():
    assert "no picture" in index(pictures={})


def test_lines_of_the_readme_end_as_windows_expects():
    raw = pages(page_data())[README]
    assert raw.startswith(b"\xef\xbb\xbf")
    assert b"\r\n" in raw
    assert not re.search(rb"[^\r]\n", raw)


def test_the_readme_has_no_word_of_the_patient():
    assert "Doe" not in readme()
    assert "1957" not in readme()


def test_both_languages_say_how_many_are_missing_and_why():
    left_out = tuple(LeftOut(Path(f"f{n}"), None, LeftOutCode.DAMAGED, "truncated") for n in range(3))
    text = readme(left_out=left_out, options={"partial": (37, 42)})
    assert "3 x truncated" in text
    assert "f2" not in text
    assert "INCOMPLETE: 37 of 42 objects" in text
    assert "INCOMPLETO: se habían recibido 37 de 42 objetos" in text
    assert "3 archivos" in text


def test_both_languages_say_what_the_archive_counts_otherwise():
    text = readme(options={"counted": (3, 60)})
    assert "the archive counts 60, has sent 3 objects and says that these are all" in text
    assert "el archivo cuenta 60, envió 3 objetos e indica que son todos" in text
    assert "counts" not in readme()


@pytest.mark.parametrize(
    ("code", "reason", "words"),
    [
        (
            LeftOutCode.COMPRESSED,
            "its compressed pixels cannot be decoded (RuntimeError)",
            "its compressed pixels cannot be decoded: damaged, or of a kind that is not known here",
        ),
        (
            LeftOutCode.NOT_CONVERTED,
            "a fault of this program ended its work on it; the log says where",
            "it could not be converted for this medium",
        ),
        (
            LeftOutCode.NOT_CONVERTED,
            "it took longer than 900 s and was stopped",
            "it could not be converted for this medium",
        ),
        (LeftOutCode.DAMAGED, "truncated (0008,0018)", "truncated (0008,0018)"),
    ],
)
def test_a_reason_is_in_words_for_people(code, reason, words):
    left_out = (LeftOut(Path("f"), None, code, reason),)
    assert f"1 x {words}\r\n" in readme(left_out=left_out)
    assert f"1 \u00d7 {words} <span" in index(left_out=left_out)


def test_both_languages_tell_what_was_compressed_from_what_was_only_written_otherwise():
    implicit, big_endian, rle = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.5"
    text = " ".join(readme(decoded_from=(implicit, big_endian, rle)).split())
    assert "1 object was stored compressed and has been decompressed for this disc" in text
    assert "2 objects were stored in another encoding, not compressed, and have been converted for this" in text
    assert "1 objeto estaba comprimido y se ha descomprimido para este disco" in text
    assert "2 objetos tenían otra codificación, sin comprimir, y se han convertido para este disco" in text
    only = " ".join(readme(decoded_from=(implicit,)).split())
    assert "1 object was stored in another encoding, not compressed, and has been converted" in only
    assert not {"decompressed", "descomprimido"} & set(only.split())
    assert not {"converted", "convertido"} & set(readme(decoded_from=(rle,)).split())
    assert "stored" not in readme().replace("storestow", "")


def test_who_finds_the_disc_learns_whom_to_call():
    assert "tel. 123" in readme(options={"contact": "tel. 123"})
    assert "tel. 123" in index(options={"contact": "tel. 123"})


@pytest.mark.parametrize(("at", "words"), [("VIEWER", "in the folder VIEWER"), ("root", "beside this")])
def test_the_viewer_is_named_where_it_lies(at, words):
    more = {"viewer": Path("/srv/viewer"), "viewer_at": at}
    assert words in readme(options=more)
    assert words in text_of(index(options=more))


def test_a_folder_is_not_called_a_disc():
    assert "This folder holds" in readme(medium=ANY)
    assert "This disc holds" in readme()
    assert "STD-GEN" not in readme(medium=ANY)


def test_the_time_it_was_made_has_its_zone():
    assert MADE_AT.tzinfo is not None
    assert "2026-11-04 09:30 UTC" in readme()


def test_checksums_are_what_sha256sum_reads():
    assert checksums([("DICOMDIR", "a" * 64)]) == b"a" * 64 + b"  DICOMDIR\n"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("DOE^JOHN", "DOE, JOHN"),
        ("Peña^José María^^Dr.", "Peña, José María Dr."),
        ("Yamada^Tarou=山田^太郎=やまだ^たろう", "Yamada, Tarou (山田 太郎, やまだ たろう)"),
        ("=山田^太郎", "山田, 太郎"),
        ("Mononym", "Mononym"),
        ("", ""),
        ("^^^", ""),
    ],
)
def test_names_are_written_as_people_write_them(name, shown):
    assert readable_name(name) == shown


def test_dates_are_written_with_dashes_and_what_is_none_stays():
    assert readable_date("20260102") == "2026-01-02"
    assert readable_date("2026.01.02") == "2026-01-02"
    assert readable_date("about 1970") == "about 1970"


def test_what_turns_the_direction_of_all_text_behind_it_is_taken_out():
    name = "Doe\u202e^\u2066Jane"
    for page in (index(text=name), readme(text=name)):
        assert not {"\u202e", "\u2066"} & set(page)
    assert "Doe, Jane" in index(text=name)


def test_the_site_chooses_the_languages_and_their_order():
    left_out = (LeftOut(Path("f"), None, LeftOutCode.DAMAGED, "truncated"),)
    page = text_of(index(options={"languages": ("id", "en"), "partial": (37, 42)}, left_out=left_out))
    assert page.startswith("Citra medis / Medical images")
    assert "Tidak lengkap: 37 dari 42 objek." in page
    assert "1 \u00d7 rusak, atau bukan berkas yang utuh (truncated) / it is damaged" in page
    text = readme(options={"languages": ("id", "en"), "partial": (37, 42)}, left_out=left_out)
    assert text.index("CITRA MEDIS") < text.index("MEDICAL IMAGES")
    assert "*** TIDAK LENGKAP: 37 dari 42 objek." in text
    assert "  1 x rusak, atau bukan berkas yang utuh (truncated)\r\n" in text
    assert "1 x truncated\r\n" in text
    assert "IMÁGENES" not in text
    assert '<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="id" lang="id">' in index(
        options={"languages": ("id",)}
    )


@pytest.mark.parametrize("language", ["en", "es", "id"])
def test_every_reason_and_every_notice_is_in_every_language(language):
    for code in LeftOutCode:
        options = {
            "languages": (language,),
            "partial": (1, 2),
            "counted": (1, 2),
            "only": ("CT",),
            "unknown": ("A1",),
            "identity_allowed": "a reason",
            "viewer": Path("/srv/viewer"),
        }
        more = {"left_out": (LeftOut(Path("f"), None, code, "the exact reason"),), "options": options}
        said = languages()[language].say(f"left_out.{code}") if language != "en" else "the exact reason"
        assert said in readme(**more) or code == LeftOutCode.NOT_CONVERTED
        assert "***   a reason" in readme(**more)
        assert said in index(**more) or code == LeftOutCode.NOT_CONVERTED


def test_the_hospital_and_its_logo_are_on_the_pages(tmp_path):
    page = index(options={"hospital": "St. <Mary>"}, logo="IHE_PDI/LOGO.PNG")
    assert '<img class="logo" src="IHE_PDI/LOGO.PNG" alt="Logo of the hospital" />' in page
    assert "St. &lt;Mary&gt;" in page
    assert "St. <Mary>\r\n" in readme(options={"hospital": "St. <Mary>"})
    assert "logo" not in index().split("<body>")[1]
