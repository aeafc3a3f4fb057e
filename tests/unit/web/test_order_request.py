import pytest
from support.sites.shim_site import PEER, settings_of

from pipeline.web.http_errors import HttpError
from pipeline.web.order_request import Verb, wish_of
from pipeline.web.site_checks import looked_at


@pytest.fixture
def settings(tmp_path):
    return settings_of(tmp_path)


def refusal(verb, parameters, settings):
    with pytest.raises(HttpError) as refused:
        wish_of(verb, parameters, settings)
    return refused.value


@pytest.mark.parametrize("verb", list(Verb))
@pytest.mark.parametrize("spelling", ["accession_number", "accession_numbers"])
def test_both_spellings_mean_the_same_for_every_link(settings, verb, spelling):
    assert wish_of(verb, [(spelling, "A1, B2 ,A1")], settings).accessions == ("A1", "B2")


def test_a_site_that_keeps_to_the_standard_refuses_longer_numbers(settings):
    asked = [("accession_number", "RAD-2026-00004711-2")]
    assert wish_of(Verb.PRINT, asked, settings).accessions == ("RAD-2026-00004711-2",)
    pacs = settings.pacs.model_copy(update={"accession_number_length": 16})
    refused = refusal(Verb.PRINT, asked, settings.model_copy(update={"pacs": pacs}))
    assert (refused.kind.status, "at most 16 characters" in refused.detail) == (400, True)


@pytest.mark.parametrize(
    "parameters",
    [
        [],
        [("accession_number", "")],
        [("accession_number", "   ")],
        [("accession_number", "A,,B")],
        [("accession_number", "A,")],
        [("accession_number", "*")],
        [("accession_number", "A?")],
        [("accession_number", "A\\B")],
        [("accession_number", "A\nB")],
        [("accession_number", "A\0")],
        [("accession_number", "x" * 65)],
        [("accession_number", "Ñ1")],
        [("accession_number", ",".join(f"A{n}" for n in range(21)))],
        [("accession_number", "A"), ("accession_numbers", "B")],
        [("accession_number", "A"), ("accession_number", "A")],
        [("accessionnumber", "A")],
    ],
)
def test_what_is_no_accession_number_is_refused_before_anything_is_asked(settings, parameters):
    refused = refusal(Verb.PRINT, parameters, settings)
    assert (refused.kind.status, refused.kind.words) == (400, "invalid accession_number")
    assert refused.detail


def test_of_several_numbers_the_wrong_one_is_told(settings):
    assert "number 2 of 3" in refusal(Verb.PRINT, [("accession_number", "A,,B")], settings).detail


def test_twenty_accession_numbers_are_allowed_and_repeated_ones_count_once(settings):
    numbers = [f"A{n}" for n in range(20)]
    wish = wish_of(Verb.PRINT, [("accession_numbers", ",".join(numbers + numbers))], settings)
    assert list(wish.accessions) == numbers


def test_a_forward_goes_to_the_first_destination_unless_the_link_names_another_allowed_one(settings):
    assert wish_of(Verb.FORWARD, [("accession_number", "A")], settings).destination == "archive"
    assert wish_of(Verb.FORWARD, [("accession_number", "A"), ("to", "other")], settings).destination == "other"


@pytest.mark.parametrize("to", ["publisher", "disc", "nobody", "archive,other", "../archive"])
def test_a_destination_the_site_does_not_allow_is_refused_although_it_exists(settings, to):
    refused = refusal(Verb.FORWARD, [("accession_number", "A"), ("to", to)], settings)
    assert (refused.kind.status, refused.kind.words) == (400, "invalid destination")


def test_only_a_forward_listens_to_the_destination_of_a_link(settings):
    assert wish_of(Verb.PRINT, [("accession_number", "A"), ("to", "other")], settings).destination == "publisher"


DISC = {"name": "disc", "kind": "iso", "folder": "/srv/discs"}
PUBLISHER = {**PEER, "name": "publisher", "port": 10105}
UNSET = {"download": None, "print": None, "forward": []}


@pytest.mark.parametrize(
    ("verb", "named"),
    [(Verb.DOWNLOAD, "disc"), (Verb.DOWNLOAD_MULTIPLE, "disc"), (Verb.PRINT, "publisher")],
)
def test_a_link_whose_destination_is_not_set_means_the_only_one_of_its_kind(tmp_path, verb, named):
    settings = settings_of(tmp_path, shim=UNSET, destination=[DISC, PUBLISHER])
    assert wish_of(verb, [("accession_number", "A")], settings).destination == named
    assert f"links mean {named}, the only destination of its kind" in str(list(looked_at(settings)))


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        (
            Verb.DOWNLOAD,
            '[shim] download names no destination, and of kind "iso" there is more than one: disc, disc2',
        ),
        (Verb.PRINT, '[shim] print names no destination, and of kind "cstore" there is none'),
        (Verb.FORWARD, "[shim] forward names no destination"),
    ],
)
def test_a_link_whose_destination_is_not_set_nor_clear_is_not_configured(tmp_path, verb, words):
    settings = settings_of(tmp_path, shim=UNSET, destination=[DISC, {**DISC, "name": "disc2"}])
    refused = refusal(verb, [("accession_number", "A")], settings)
    assert (refused.kind.status, refused.kind.words, refused.detail) == (501, "not configured", words)
    assert f"{words.removeprefix('[shim] ')}: " in str(list(looked_at(settings)))


LINE = {"name": "line", "ae_title": "LINE", "port": 10106}


@pytest.mark.parametrize(("verb", "named"), [(Verb.DOWNLOAD, "disc"), (Verb.PRINT, "publisher")])
@pytest.mark.parametrize("use", ["forward", "receiver", "route"])
def test_a_destination_that_serves_something_else_is_never_meant_by_a_link_that_does_not_name_it(
    tmp_path, verb, named, use
):
    receivers = settings_of(tmp_path).model_dump(include={"receiver"}, exclude_unset=True)["receiver"]
    more = {
        "forward": {"shim": {**UNSET, "forward": [named]}},
        "receiver": {"receiver": [*receivers, {**LINE, "to": [named]}]},
        "route": {"receiver": [*receivers, {**LINE, "to": []}], "route": [{"to": [named]}]},
    }[use]
    settings = settings_of(tmp_path, **{"shim": UNSET, "destination": [DISC, PUBLISHER], **more})
    key = "print" if verb is Verb.PRINT else "download"
    refused = refusal(verb, [("accession_number", "A")], settings)
    assert (refused.kind.status, refused.kind.words) == (501, "not configured")
    assert f"{key} names no destination, and {named}, the only one of kind" in refused.detail
    assert f"{key} names no destination, and {named}, the only one of kind" in str(list(looked_at(settings)))
    settings = settings_of(tmp_path, **{"destination": [DISC, PUBLISHER], **more, "shim": {**UNSET, key: named}})
    assert wish_of(verb, [("accession_number", "A")], settings).destination == named


@pytest.mark.parametrize(
    ("verb", "shim", "words"),
    [
        (Verb.DOWNLOAD, {"download": "archive"}, 'download names archive, whose kind "cstore" makes no file'),
        (Verb.DOWNLOAD_MULTIPLE, {"download": "archive"}, "makes no file to download"),
        (Verb.PRINT, {"print": "disc"}, 'print names disc, whose kind "iso" makes a file'),
        (Verb.FORWARD, {"forward": ["disc"]}, "makes a file to download and sends nothing"),
    ],
)
def test_a_link_whose_destination_cannot_do_it_is_not_configured(tmp_path, verb, shim, words):
    refused = refusal(verb, [("accession_number", "A")], settings_of(tmp_path, shim=shim))
    assert (refused.kind.status, refused.kind.words) == (501, "not configured")
    assert words in refused.detail


def test_of_several_destinations_only_the_one_that_cannot_do_it_is_refused(tmp_path):
    settings = settings_of(tmp_path, shim={"forward": ["archive", "disc"]})
    asked = [("accession_number", "A")]
    assert wish_of(Verb.FORWARD, asked, settings).destination == "archive"
    assert refusal(Verb.FORWARD, [*asked, ("to", "disc")], settings).kind.status == 501


def test_without_a_pacs_nothing_is_configured(tmp_path):
    refused = refusal(Verb.PRINT, [("accession_number", "A")], settings_of(tmp_path, pacs=None))
    assert (refused.kind.status, refused.kind.words) == (501, "not configured")


def test_modalities_are_a_list_and_each_counts_once(settings):
    wish = wish_of(Verb.PRINT, [("accession_number", "A"), ("modality", "MR, CT,MR")], settings)
    assert wish.modalities == ("MR", "CT")


@pytest.mark.parametrize(
    ("name", "value"),
    [("modality", "M*"), ("modality", "mr"), ("modality", "MR,,CT"), ("modality", "M\\R"), ("container", "exe")],
)
def test_another_parameter_that_is_wrong_is_named(settings, name, value):
    refused = refusal(Verb.DOWNLOAD, [("accession_number", "A"), (name, value)], settings)
    assert refused.kind.status == 400
    assert refused.detail.startswith(name)


def test_a_parameter_given_twice_is_refused_rather_than_guessed(settings):
    assert (
        refusal(Verb.PRINT, [("accession_number", "A"), ("again", "0"), ("again", "1")], settings).kind.status
        == 400
    )


@pytest.mark.parametrize(
    ("value", "allowed"), [("yes", True), ("YES", True), ("1", True), ("no", False), ("", False)]
)
def test_what_is_left_out_must_be_said_to_be_allowed(settings, value, allowed):
    wish = wish_of(Verb.PRINT, [("accession_number", "A"), ("incomplete", value)], settings)
    assert (wish.incomplete_allowed, wish.missing_allowed, wish.again) == (allowed, False, False)


def test_only_a_download_has_a_container(settings):
    parameters = [("accession_number", "A"), ("container", "zip")]
    assert wish_of(Verb.DOWNLOAD, parameters, settings).container == "zip"
    assert wish_of(Verb.PRINT, parameters, settings).container == ""
