"""The checks of `storestow check` for the routes: what can never match, and which routes meet at a destination."""

from collections.abc import Iterator
from itertools import combinations

from pydicom._uid_dict import UID_dictionary

from pipeline.commands.receiver_checks import Said
from pipeline.config.route_tables import RouteFacts, RouteTable
from pipeline.site.routing import routes_of
from pipeline.site.settings import Settings

_WILD = frozenset("*?[")
_LONGEST = {"calling_ae_title": 16, "called_ae_title": 16, "modality": 16, "body_part": 16, "peer": 45}
_CODE_STRINGS = ("modality", "body_part")  # CS: upper case letters, digits, blank and underscore, PS3.5 6.2.


def route_findings(settings: Settings) -> Iterator[tuple[str, Said]]:
    """Yield the name of a route, and a finding with its remedy."""
    for number, route in enumerate(settings.route, 1):
        name = f"route {number}"
        why = list(_never(route, settings))
        yield from ((name, ("error", f"it can never match: {reason}")) for reason in why)
        if not why:
            yield name, ("ok", f"to {', '.join(route.to)}")
    yield from _meeting(settings)


def _never(route: RouteTable, settings: Settings) -> Iterator[str]:
    """Yield why no instance can meet all conditions of a route."""
    receivers = [
        receiver
        for receiver in settings.receiver
        if receiver.coerce and (route.receiver is None or route.may_match_receiver(receiver.name))
    ]
    if not receivers:
        what = "no receiver" if route.receiver is None else f"no receiver named {route.receiver}"
        yield f"{what} has coerce = true; what comes in at the others takes no route"
        return
    if route.peer is not None and all(receiver.mode != "association" for receiver in receivers):
        yield 'peer: its receivers are not in mode = "association", and know no addresses'
    titles = {receiver.ae_title for receiver in receivers if receiver.mode != "association"}
    is_fixed = all(receiver.mode != "association" for receiver in receivers)
    if route.called_ae_title is not None and is_fixed and not any(_is_called(route, title) for title in titles):
        yield f"called_ae_title: in study mode it is the receiver's own, {', '.join(sorted(titles))}"
    for key, longest in _LONGEST.items():
        pattern = getattr(route, key)
        if pattern is not None and not _WILD & set(pattern) and not 0 < len(pattern.strip()) <= longest:
            yield f"{key}: a value has 1 to {longest} characters"
    for key in _CODE_STRINGS:
        pattern = getattr(route, key)
        if pattern is not None and "[" not in pattern and pattern != pattern.upper():
            yield f"{key}: such values are in upper case: write {pattern.upper()}"
    if route.sop_class is not None and not _may_be_a_class(route.sop_class):
        yield "sop_class: no SOP Class of the standard has such a UID or name, as CT Image Storage is one"


def _is_called(route: RouteTable, title: str) -> bool:
    return RouteTable(to=route.to, called_ae_title=route.called_ae_title).matches(RouteFacts("", "", title))


def _may_be_a_class(pattern: str) -> bool:
    if set(pattern) <= set("0123456789.*?[]-!"):  # A private class has a UID that no list knows.
        return True
    only = RouteTable(to=("any",), sop_class=pattern)
    return any(only.matches(RouteFacts("", "", "", sop_class_uid=uid)) for uid in UID_dictionary)


def _meeting(settings: Settings) -> Iterator[tuple[str, Said]]:
    """Yield which routes of one receiver send to the same destination in different encodings."""
    told = set()
    for receiver in settings.receiver:
        for (one, first), (other, second) in combinations(routes_of(settings, receiver), 2):
            for name in set(first.to) & set(second.to):
                if {first.encode, second.encode} == {first.encode} or (one, other, name) in told:
                    continue
                told.add((one, other, name))
                words = f"{one} and {other} both lead to {name}: where both match it is sent once, "
                yield other, ("note", f"{words}encoded as the first that names an encode says")
