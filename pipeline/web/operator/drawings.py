"""Charts as SVG: bars by the hour, lines, and the time line of one study. Pure.

Colours are classes of the style sheet, so that they follow light and dark. An XML library escapes every text.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree as ET

from markupsafe import Markup

WIDTH, HEIGHT = 640, 200
LEFT, RIGHT, TOP, BOTTOM = 52, 8, 26, 24
COLOURS = 6
_ROUND = (1, 2, 5, 10)


@dataclass(frozen=True, slots=True)
class TimeLineEvent:
    """One event in the history of a study: its lane, its begin and its end, which are equal if it took no time."""

    lane: str
    begin: float
    end: float
    words: str
    is_bad: bool = False


def _canvas(height: int = HEIGHT) -> ET.Element:
    return ET.Element("svg", {"viewBox": f"0 0 {WIDTH} {height}", "class": "picture"})


def _text(  # noqa: PLR0913, PLR0917  # where, what, how
    parent: ET.Element, x: float, y: float, words: str, kind: str = "", anchor: str = "middle"
) -> None:
    about = {"x": f"{x:.1f}", "y": f"{y:.1f}", "text-anchor": anchor}
    ET.SubElement(parent, "text", {**about, **({"class": kind} if kind else {})}).text = words


def _done(picture: ET.Element) -> Markup:
    return Markup(ET.tostring(picture, encoding="unicode"))  # noqa: S704  # the library has escaped every text


def _figure(title: str, svg: ET.Element) -> Markup:
    """Return a chart below its title: where a screen is too narrow for it, the title stays and the chart moves.

    Programs that read aloud get the title alone, and once: the numbers along an axis say nothing alone.
    """
    svg.set("aria-hidden", "true")
    figure = ET.Element("figure")
    ET.SubElement(figure, "figcaption").text = title
    ET.SubElement(figure, "div", {"class": "newest"}).append(svg)
    return _done(figure)


def _top(highest: float) -> float:
    """Return a round number at or above `highest`."""
    scale = 1.0
    while scale * 10 < highest:
        scale *= 10
    return next((scale * step for step in _ROUND if scale * step >= highest), max(highest, 1.0))


def _axes(svg: ET.Element, top: float, begin: float, end: float, unit: str) -> None:
    bottom = HEIGHT - BOTTOM
    for part in (0.0, 0.5, 1.0):
        y = bottom - part * (bottom - TOP)
        ET.SubElement(svg, "path", {"class": "grid", "d": f"M{LEFT} {y:.1f}H{WIDTH - RIGHT}"})
        _text(svg, LEFT - 6, y + 4, f"{top * part:g}{unit}", "quiet", "end")
    days = (end - begin) / 86400
    step = 6 * 3600 if days < 2 else 86400
    moment = begin - begin % step + step
    while moment < end:
        words = time.strftime("%H:%M" if days < 2 else "%a %d", time.localtime(moment))
        _text(svg, _across(moment, begin, end), HEIGHT - 6, words, "quiet")
        moment += step


def _across(moment: float, begin: float, end: float) -> float:
    return LEFT + (moment - begin) / max(end - begin, 1.0) * (WIDTH - LEFT - RIGHT)


def _legend(svg: ET.Element, names: Sequence[str]) -> None:
    x = float(WIDTH - RIGHT)
    for number, name in reversed(list(enumerate(names[:COLOURS]))):
        _text(svg, x, 14, name[:18], "quiet", "end")
        x -= 6.3 * min(len(name), 18) + 4
        ET.SubElement(
            svg, "rect", {"class": f"c{number}", "x": f"{x - 6:.1f}", "y": "6", "width": "9", "height": "9"}
        )
        x -= 14


def bars(
    title: str, series: Mapping[str, Mapping[int, float]], begin: float, end: float, unit: str = ""
) -> Markup:
    """Return a figure of stacked bars, one for each hour.

    `series` maps a name to its values by the hour since the epoch.
    """
    svg = _canvas()
    names = sorted(series)
    hours = range(int(begin // 3600), int(end // 3600) + 1)
    top = _top(max((sum(series[name].get(hour, 0) for name in names) for hour in hours), default=0))
    _axes(svg, top, begin, end, unit)
    bottom = HEIGHT - BOTTOM
    wide = max(1.0, (WIDTH - LEFT - RIGHT) / max(len(hours), 1) - 1)
    for hour in hours:
        y = float(bottom)
        for number, name in enumerate(names):
            tall = series[name].get(hour, 0) / top * (bottom - TOP)
            if tall:
                y -= tall
                x = max(_across(hour * 3600, begin, end), LEFT)
                width = max(1.0, min(wide, WIDTH - RIGHT - x))
                about = {"x": f"{x:.1f}", "y": f"{y:.1f}", "width": f"{width:.1f}", "height": f"{tall:.1f}"}
                ET.SubElement(svg, "rect", {"class": f"c{number % COLOURS}", **about})
    _legend(svg, names)
    return _figure(title, svg)


def lines(  # noqa: PLR0913  # what a picture needs, each by its name
    title: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    begin: float,
    end: float,
    unit: str = "",
    *,
    mark: float | None = None,
) -> Markup:
    """Return a figure of lines over time.

    `series` maps a name to (moment, value) in order; `mark` is the value of a horizontal line.
    """
    svg = _canvas()
    names = sorted(series)
    values = [value for points in series.values() for _, value in points]
    top = _top(max([*values, mark or 0.0, 1.0]))
    _axes(svg, top, begin, end, unit)
    bottom = HEIGHT - BOTTOM

    def y_of(value: float) -> float:
        return bottom - value / top * (bottom - TOP)

    if mark:
        ET.SubElement(svg, "path", {"class": "mark", "d": f"M{LEFT} {y_of(mark):.1f}H{WIDTH - RIGHT}"})
    for number, name in enumerate(names):
        points = [(max(_across(at, begin, end), LEFT), y_of(value)) for at, value in series[name]]
        path = " ".join(f"{'L' if place else 'M'}{x:.1f} {y:.1f}" for place, (x, y) in enumerate(points))
        if len(points) > 1:
            ET.SubElement(svg, "path", {"class": f"line c{number % COLOURS}", "d": path})
        for x, y in points if len(points) < 30 else points[-1:]:
            about = {"cx": f"{x:.1f}", "cy": f"{y:.1f}", "r": "2.5"}
            ET.SubElement(svg, "circle", {"class": f"c{number % COLOURS}", **about})
    _legend(svg, names)
    return _figure(title, svg)


def time_line(title: str, events: Sequence[TimeLineEvent]) -> Markup:
    """Return the time line of a study: one lane for its receiver and one for each destination."""
    lanes = list(dict.fromkeys(event.lane for event in events))
    height = TOP + 34 * len(lanes) + BOTTOM
    svg = _canvas(height)
    svg.set("role", "img")
    ET.SubElement(svg, "title").text = title
    _text(svg, LEFT, 14, title, "name", "start")
    begin, end = min(event.begin for event in events), max(event.end for event in events)
    span = max(end - begin, 1.0)
    left = 170

    def x_of(moment: float) -> float:
        return left + (moment - begin) / span * (WIDTH - left - 16)

    for number, lane in enumerate(lanes):
        y = TOP + 34 * number + 17
        ET.SubElement(svg, "path", {"class": "grid", "d": f"M{left} {y}H{WIDTH - 16}"})
        _text(svg, left - 8, y + 4, lane[:18], "", "end")
        for event in (event for event in events if event.lane == lane):
            kind = "bad" if event.is_bad else f"c{number % COLOURS}"
            place = {"x": f"{x_of(event.begin) - 3:.1f}", "y": f"{y - 6}", "height": "12", "rx": "3"}
            wide = max(6.0, x_of(event.end) - x_of(event.begin) + 6)
            box = ET.SubElement(svg, "rect", {"class": kind, **place, "width": f"{wide:.1f}"})
            ET.SubElement(box, "title").text = event.words
    shown = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(begin))
    _text(svg, left, height - 6, shown, "quiet", "start")
    _text(svg, WIDTH - 16, height - 6, f"+ {duration(span)}", "quiet", "end")
    return _done(svg)


def duration(seconds: float) -> str:
    """Return a duration as people write it: "45 s", "12 min", "3 h 5 min", "2 d 4 h"."""
    whole = int(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 6000:
        return f"{whole // 60} min"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"
