"""Addresses of an order's page, file and button, relative to the requested address.

They are under the path of the link that placed the order, whatever a proxy calls that path, and under /orders/.
"""

from dataclasses import dataclass

from starlette.requests import Request

from pipeline.orders import OrderView
from pipeline.web.order_request import SPELLINGS, Verb
from pipeline.web.order_service import reference_of

LINKS = {
    "/api/iso/download": Verb.DOWNLOAD,
    "/api/iso/download-multiple": Verb.DOWNLOAD_MULTIPLE,
    "/api/iso/print": Verb.PRINT,
    "/api/iso/print-multiple": Verb.PRINT,
    "/api/iso/forward": Verb.FORWARD,
    "/mkiso.php": Verb.DOWNLOAD,  # The HIS has used these addresses for years.
    "/mkiso_multiple.php": Verb.DOWNLOAD_MULTIPLE,
    "/send_rimage_multiple.php": Verb.PRINT,
    "/mkiso2.php": Verb.FORWARD,
}
PATH_OF = {  # Relative to /.
    Verb.DOWNLOAD: "api/iso/download",
    Verb.DOWNLOAD_MULTIPLE: "api/iso/download-multiple",
    Verb.PRINT: "api/iso/print",
    Verb.FORWARD: "api/iso/forward",
}


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses of one order, as the answer to one request names them."""

    page: str
    file: str
    again: str
    onwards: str  # The page again, as the answer to the button's POST names it.
    # Prefix of page and file for programs; under a link's path the addresses are relative for them, too.
    root: str = ""
    new: str = "?new=1"  # A form for another request.
    ask: str = ""  # Where that form leads; "" is the requested path itself.


def names_an_order(request: Request) -> bool:
    """Say whether a link's address is that of an order's page: `?order=`, and no accession number."""
    given = request.query_params
    return "order" in given and not any(name in given for name in SPELLINGS)


def wants_form(request: Request) -> bool:
    """Say whether a link's address asks for a form for a new request: `?new=`, and no accession number."""
    given = request.query_params
    return request.method == "GET" and "new" in given and not any(name in given for name in SPELLINGS)


def form_for(request: Request) -> str:
    """Return the address of a form for another request: under the link that was asked for, or at the root."""
    path = request.scope.get("raw_path") or request.scope["path"].encode()
    is_link = request.scope["path"] in LINKS
    return "?new=1" if is_link else "../" * (path.count(b"/") - 1) or "./"


def reference_in(request: Request) -> str:
    """Return the reference of the requested order, "" if there is none or several."""
    if "reference" in request.path_params:
        return str(request.path_params["reference"])
    named = request.query_params.getlist("order")
    return named[0] if len(named) == 1 else ""


def under_link(view: OrderView) -> Addresses:
    """Return the addresses of an order for a client that came by a link."""
    here = f"?order={reference_of(view)}"
    return Addresses(here, f"{here}&file=1", here, here)


def addresses_of(request: Request, view: OrderView) -> Addresses:
    """Return the addresses of an order, as they fit the address that the client has asked for."""
    if "reference" not in request.path_params:
        return under_link(view)
    name = reference_of(view)
    ask = f"../{PATH_OF[Verb(view.verb)]}"
    return Addresses(name, f"{name}/file", f"{name}/again", f"../{name}", "/orders/", new="../", ask=ask)
