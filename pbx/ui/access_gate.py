"""The gate in front of the app: it refuses requests before Streamlit sees them.

The app has no sign-in yet, and everyone who reaches it sees all calls. So it answers this machine only, and only
requests to its own address that come from a person or from its own pages: not from another website open in a local
browser (DNS rebinding, cross-site requests), nor from a page on another port of this machine.
"""

import html
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import streamlit as st
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import HTMLResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from streamlit import config

from pbx.errors import SettingsError
from pbx.settings import HOST_AND_PORT, load_settings

_DEFAULT_PORTS = {"http": 80, "https": 443}  # the ports that browsers omit
_LOOPBACK = ("localhost", "127.0.0.1", "::1")
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Not served – PBX Notebook</title>
<style>:root{{color-scheme:light dark}} body{{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:15vh auto;
padding:0 1rem}} h1{{font-size:1.4rem}}</style></head>
<body><h1>{title}</h1><p>{why}</p><p>{fix}</p></body></html>
"""


@dataclass(frozen=True)
class RequestRefusal:
    """Why a request is refused, and how to fix it."""

    title: str
    why: str
    fix: str


@dataclass(frozen=True)
class Rules:
    """Which requests are allowed. `bound_to` is the address that the server listens on, empty for all addresses."""

    bound_to: str
    allow_network: bool = False
    allowed_hosts: frozenset[str] = frozenset()  # "name", or "name:port" for a port of its own

    def refusal(self, server: tuple[str, int], kind: str, method: str, headers: Headers) -> RequestRefusal | None:
        """Why a request to `server`, an address and port of this machine, is refused; None to answer it.

        `kind` is "http" or "websocket". A request without Origin and Sec-Fetch-Site doesn't come from a page, because
        browsers send these headers.
        """
        address, port = _plain_address(server[0]), server[1]
        if not self.allow_network and not (is_loopback(self.bound_to) and is_loopback(address)):
            return _network_refusal(address if is_loopback(self.bound_to) else self.bound_to or "0.0.0.0", port)  # noqa: S104
        hosts = headers.getlist("host")
        if len(hosts) != 1 or not self._is_own(hosts[0], address, port):
            return _host_refusal(hosts[0] if hosts else "", port)
        origin = headers.get("origin")
        if (origin is not None and not _same_server(origin, hosts[0])) or _from_another_site(kind, method, headers):
            return RequestRefusal(
                "Another website made this request.",
                "PBX Notebook answers its own pages only.",
                "Open the app directly or through a link, not inside another page.",
            )
        return None

    def _is_own(self, host: str, address: str, port: int) -> bool:
        match = HOST_AND_PORT.fullmatch(host.lower())
        if match is None:
            return False
        name, given = match["name"].strip("[]"), int(match["port"]) if match["port"] else None
        if name in (*_LOOPBACK, address) and (given == port or (given is None and port in _DEFAULT_PORTS.values())):
            return True
        names = {match["name"], name}
        if given in (None, port, *_DEFAULT_PORTS.values()) and names & self.allowed_hosts:
            return True
        return bool({f"{one}:{given}" for one in names} & self.allowed_hosts)


class Gate:
    """ASGI middleware that answers refused requests with a page that says why, and passes on all others."""

    def __init__(self, app: ASGIApp, rules: Rules) -> None:
        self._app, self._rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        server = scope.get("server") or ("", 0)
        refusal = self._rules.refusal(
            (server[0], server[1] or 0), scope["type"], scope.get("method", "GET"), Headers(scope=scope)
        )
        if refusal is None:
            await self._app(scope, receive, _unframed(send))
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})  # before it is accepted: a 403 response
        else:
            await _refused_page(refusal)(scope, receive, send)


def rules() -> Rules:
    """The rules from the settings and Streamlit's `server.address`; the strictest if the settings have errors."""
    bound_to = str(config.get_option("server.address") or "")
    try:
        settings = load_settings()
    except SettingsError:  # each page shows the error
        return Rules(bound_to)
    return Rules(bound_to, settings.pbx_allow_network, settings.allowed_hosts)


def network_warning() -> None:
    """Warn on the page if the app is open to the network without a sign-in."""
    if load_settings().pbx_allow_network:
        st.warning(
            "Open to the network without a sign-in (PBX_ALLOW_NETWORK): anyone who can reach this app can see all "
            "calls and recordings.",
            icon=":material/lock_open:",
        )


def stop_without_gate() -> None:
    """Stop a page that was started without the app and its gate: `streamlit run pages/live/queues.py`."""
    if config._server_mode == "starlette-managed":  # a script started directly, not through our App
        st.error("This page was started without the app, so nothing checks who opens it. Run streamlit_app.py instead.")
        st.stop()


def is_loopback(address: str) -> bool:
    """Whether an address can be reached from this machine only."""
    if address.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(_plain_address(address)).is_loopback
    except ValueError:  # a name, or empty, which means all addresses
        return False


def _plain_address(address: str) -> str:
    """An IP address without brackets and scope; an IPv4 address in IPv6 notation as IPv4."""
    address = address.strip("[]").partition("%")[0]
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


def _same_server(origin: str, host: str) -> bool:
    """Whether a page's origin is the host and port of the request."""
    try:
        parts = urlsplit(origin)
        default = _DEFAULT_PORTS[parts.scheme]
        requested = urlsplit(f"//{host}")
        return (parts.hostname, parts.port or default) == (requested.hostname, requested.port or default)
    except (ValueError, KeyError):  # "null" among them: a sandboxed frame or a file
        return False


def _from_another_site(kind: str, method: str, headers: Mapping[str, str]) -> bool:
    """Whether, according to the browser, another site's page made the request, and not by a link to open the app."""
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    followed = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == ("navigate", "document")
    return kind == "websocket" or method not in ("GET", "HEAD") or not followed


def _unframed(send: Send) -> Send:
    """Prevent other sites from framing the response, where they could steal clicks."""

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message)["X-Frame-Options"] = "DENY"
        await send(message)

    return sent


def _network_refusal(bound_to: str, port: int) -> RequestRefusal:
    return RequestRefusal(
        "PBX Notebook is locked because other machines can reach it.",
        f"The app listens on {bound_to} and has no sign-in yet, so anyone on the network could see every call and "
        "recording. It stays locked until you do one of the following.",
        "Best: remove STREAMLIT_SERVER_ADDRESS or --server.address, so that only this machine can reach the app, and "
        f"restart it. On another machine, run ssh -L {port}:127.0.0.1:{port} user@this-machine, then open "
        f"http://localhost:{port} there. Or, to let everyone on the network see all calls and recordings, set "
        "PBX_ALLOW_NETWORK=yes and restart the app.",
    )


def _host_refusal(host: str, port: int) -> RequestRefusal:
    named = f"“{host}”" if HOST_AND_PORT.fullmatch(host.lower()) else "It"
    return RequestRefusal(
        "PBX Notebook can’t be opened at this address.",
        f"{named} isn’t one of the app’s own addresses. It is blocked because another website could be trying to read "
        "your data.",
        f"On the machine that runs the app, open http://localhost:{port}. If you use another name or port for it, "
        "through a reverse proxy or a tunnel, add it to PBX_ALLOWED_HOSTS (notebook.example.com or localhost:9000, for "
        "example) and restart the app.",
    )


def _refused_page(refusal: RequestRefusal) -> HTMLResponse:
    words = {name: html.escape(text) for name, text in vars(refusal).items()}
    headers = {"Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'"}
    return HTMLResponse(_PAGE.format(**words), 403, headers)
