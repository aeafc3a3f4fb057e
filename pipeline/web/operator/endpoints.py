"""The addresses of the operator's page; there are none if the site has no operator key."""

import hmac
import time
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote, urlencode

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pipeline.errors import StorestowError, Transient, Usage
from pipeline.events import Event, alarm, emit
from pipeline.fleet.fleet_watch import FleetWatch, SiteView
from pipeline.ledger import Ledger, told_alarms
from pipeline.orders.finish import DeliveryRunning
from pipeline.web.http_errors import INVALID_PARAMETER, NO_OPERATOR, NOT_FOUND, NOT_FROM_PAGE, HttpError
from pipeline.web.http_responses import html, words_of
from pipeline.web.operator import views
from pipeline.web.operator.acts import ACTS, ActDone, Asked, act
from pipeline.web.operator.drawings import duration
from pipeline.web.operator.session import COOKIE, SECONDS, Session, Sessions, parse_name
from pipeline.web.order_service import OrderService, ask
from pipeline.web.page_forms import FIELD, fields_of
from pipeline.web.shim_site import site_of

ROOT = "/operator"
_REFRESH_SECONDS = 30

Page = Callable[[Request, Session], Awaitable[Response]]


def is_operator_path(path: str) -> bool:
    """Say whether an address belongs to the operator's page, which the cookie protects instead of the API key."""
    return path == ROOT or path.startswith(f"{ROOT}/")


def routes() -> list[Route]:
    """Return the routes; each except the login needs a session."""
    return [
        Route(ROOT, _with_session(_overview)),
        Route(f"{ROOT}/login", _login, methods=["POST"]),
        Route(f"{ROOT}/logout", _with_session(_logout), methods=["POST"]),
        Route(f"{ROOT}/destination", _with_session(_destination)),
        Route(f"{ROOT}/orders", _with_session(_orders)),
        Route(f"{ROOT}/quarantine", _with_session(_quarantine)),
        Route(f"{ROOT}/fleet", _with_session(_fleet)),
        Route(f"{ROOT}/search", _with_session(_search)),
        Route(f"{ROOT}/study", _with_session(_study)),
        Route(f"{ROOT}/act", _with_session(_act), methods=["POST"]),
    ]


def _sessions(request: Request) -> Sessions:
    """Return the object that reads and makes the cookies, made once for the application."""
    state = request.app.state
    if not hasattr(state, "operator_sessions"):
        site = site_of(request)
        state.operator_sessions = Sessions(site.settings.spool.store, site.keyring.operator_key)
    sessions: Sessions = state.operator_sessions
    return sessions


def _with_session(page: Page) -> Callable[[Request], Awaitable[Response]]:
    async def answer(request: Request) -> Response:
        if not site_of(request).keyring.operator_key:
            raise HttpError(NOT_FOUND)
        session = await ask(_sessions(request).read, request.cookies.get(COOKIE, ""))
        if session is not None:
            return await page(request, session)
        if request.method == "POST":
            raise HttpError(NO_OPERATOR, "the session is over; log in again")
        return _page(request, "login.html", None, status=401, wrong="")

    return answer


def _page(request: Request, template: str, session: Session | None, status: int = 200, **values: Any) -> Response:
    """Return a page; `base` leads from its address to the others, whatever a proxy puts before them."""
    request.state.is_quiet = request.method == "GET" and session is not None
    is_root, words = request.url.path == ROOT, words_of(request)
    about = {
        "session": session,
        "has_fleet": bool(site_of(request).settings.fleet),
        "base": "operator/" if is_root else "",
        "home": "operator" if is_root else "../operator",
        "refresh": _REFRESH_SECONDS,
        "ago": lambda at: duration(max(0.0, time.time() - at)),
        "duration": duration,
        "clock": lambda at: time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at)),
        "state": lambda word: words.table["operator_state"].get(word, word),
        "deed": lambda word: words.table["operator_act"].get(word, word),
        "query": lambda **fields: urlencode(fields, quote_via=quote),
    }
    return html(request, f"operator/{template}", status, {"Cache-Control": "no-store"}, **about, **values)


async def _login(request: Request) -> Response:
    site, sessions = site_of(request), _sessions(request)
    if not site.keyring.operator_key:
        raise HttpError(NOT_FOUND)
    given = dict(await fields_of(request))
    name = parse_name(given.get("name", ""))
    wrong = ""
    if not sessions.may_try(time.monotonic()):
        wrong = "wrong_often"
    elif name is None:
        wrong = "wrong_name"
    elif not site.keyring.is_operator(given.get("key", "")):
        sessions.note_wrong(time.monotonic())
        alarm(Event.OPERATOR, what="login-refused", by=name)
        wrong = "wrong_key"
    if wrong or name is None:
        return _page(request, "login.html", None, status=403, wrong=wrong)
    emit(Event.OPERATOR, what="login", by=name)
    answer = RedirectResponse("../operator", 303)
    is_secure = request.url.scheme == "https" or request.headers.get("x-forwarded-proto", "") == "https"
    cookie = await ask(sessions.cookie_of, name)
    answer.set_cookie(
        COOKIE, cookie, max_age=SECONDS, path="/", secure=is_secure, httponly=True, samesite="strict"
    )
    return answer


async def _logout(request: Request, session: Session) -> Response:
    _require_token(dict(await fields_of(request)), session)
    answer = RedirectResponse("../operator", 303)
    answer.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")
    return answer


async def _overview(request: Request, session: Session) -> Response:
    order_service = site_of(request).order_service
    span = request.query_params.get("span", "day")
    if span not in views.SPANS:
        raise HttpError(INVALID_PARAMETER, "span is day or week")
    words = words_of(request)
    shown = await ask(lambda: views.overview(order_service.settings, order_service.ledger(), span, words))
    return _page(request, "overview.html", session, **shown)


async def _destination(request: Request, session: Session) -> Response:
    order_service = site_of(request).order_service
    name = request.query_params.get("name", "")
    shown = await ask(lambda: views.destination(order_service.settings, order_service.ledger(), name))
    if shown is None:
        raise HttpError(NOT_FOUND, "no such destination")
    return _page(request, "destination.html", session, **shown)


async def _orders(request: Request, session: Session) -> Response:
    order_service = site_of(request).order_service
    return _page(request, "orders.html", session, **await ask(lambda: views.orders(order_service.ledger())))


async def _quarantine(request: Request, session: Session) -> Response:
    order_service = site_of(request).order_service
    return _page(
        request, "quarantine.html", session, **await ask(lambda: views.quarantine(order_service.ledger()))
    )


async def _fleet(request: Request, session: Session) -> Response:
    """Show the other sites, although our own ledger cannot be read."""
    site = site_of(request)
    if not site.settings.fleet:
        raise HttpError(NOT_FOUND, "there is no [[fleet]]")
    try:
        ledger = await ask(site.order_service.ledger)
    except HttpError:
        ledger = None
    shown = await ask(lambda: fleet_page(site.fleet, ledger, time.time()))
    return _page(request, "fleet.html", session, **shown)


def fleet_page(fleet: FleetWatch, ledger: Ledger | None, now: float) -> dict[str, Any]:
    """Return the contents of the page from what is known already; nobody is asked while it is made."""
    views = fleet.views(now)
    lost = _lost_since(ledger) if ledger else {}
    return {
        "now": now,
        "sites": [(view, _since(view, lost)) for view in views],
        "needy": sum(bool(view.needs) for view in views),
    }


def _lost_since(ledger: Ledger) -> dict[str, float]:
    """Return since when the worker has missed sites: it may have run longer than the shim."""
    try:
        with ledger.reading() as connection:
            return {alarm.key: alarm.since for alarm in told_alarms.read(connection) if alarm.ended_at is None}
    except Transient:  # The page of other sites must not depend on our own ledger.
        return {}


def _since(view: SiteView, lost: dict[str, float]) -> float | None:
    if not view.is_lost or view.since is None:
        return None
    return min(view.since, lost.get(f"site:{view.name}", view.since))


async def _search(request: Request, session: Session) -> Response:
    order_service = site_of(request).order_service
    text = request.query_params.get("q", "")
    shown = await ask(lambda: views.search(order_service.settings, order_service.ledger(), text))
    return _page(request, "search.html", session, **shown)


async def _study(request: Request, session: Session) -> Response:
    order_service = site_of(request).order_service
    uid = request.query_params.get("uid", "")
    shown = await ask(lambda: views.study(order_service.settings, order_service.ledger(), uid, words_of(request)))
    if shown is None:
        raise HttpError(NOT_FOUND, "nothing is known of this study")
    return _page(request, "study.html", session, **shown)


async def _act(request: Request, session: Session) -> Response:
    """Do what a form asks for, and say what was done, or why not; a reload repeats nothing."""
    order_service = site_of(request).order_service
    given = dict(await fields_of(request))
    _require_token(given, session)
    kind, by = given.get("act", ""), parse_name(given.get("by", ""))
    if kind not in ACTS:
        raise HttpError(INVALID_PARAMETER, "there is no such act")
    if by is None:
        raise HttpError(INVALID_PARAMETER, "write your name, in at most 60 characters")
    asked = Asked(given.get("subject", ""), given.get("reason", ""), by, given.get("to", ""))
    page = ACTS[kind].page
    leads_to = {"destination": {"name": asked.subject}, "study": {"uid": asked.subject}}.get(page)
    back = f"{page}?{urlencode(leads_to, quote_via=quote)}" if leads_to else page
    try:
        what = await ask(_done, kind, asked, order_service)
        done = words_of(request).say(f"operator_did.{what.key}", subject=what.subject, count=what.count)
        is_done = True
    except StorestowError as error:
        done, is_done = str(error), False
    return _page(
        request, "done.html", session, 200 if is_done else 409, done=done, is_done=is_done, kind=kind, back=back
    )


def _done(kind: str, asked: Asked, order_service: OrderService) -> ActDone:
    """Do what a form asks for; Usage says that a running delivery forbids it, which is no fault of the ledger."""
    try:
        return act(kind, asked, order_service.settings, order_service.ledger())
    except DeliveryRunning as error:
        raise Usage(str(error)) from error


def _require_token(given: dict[str, str], session: Session) -> None:
    """Raise HttpError unless a page of this session sent the form."""
    if not hmac.compare_digest(given.get(FIELD, "").encode("utf-8", "replace"), session.token.encode()):
        raise HttpError(NOT_FROM_PAGE, "the form carries no token of this session; open the page again")
