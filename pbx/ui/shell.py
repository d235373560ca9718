"""Styles and scripts that every page gets before Streamlit draws anything, so that nothing moves once it is visible.

Streamlit's HTML page has none of our styles: when they came with the first elements, these moved. It also loads the
code of each kind of element only when the first one is drawn, and draws the sidebar only when it knows the pages.
"""

import re
from pathlib import Path

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pbx.ui.page_elements import UI_DIR

# Elements at the top of pages: the browser loads their code while the page's script runs. (Charts have a height.)
PRELOADED: tuple[str, ...] = ("BidiComponent", "Button", "ButtonGroup", "Checkbox", "DateInput", "Html", "Metric")
PRELOADED += ("Multiselect", "NumberInput", "PageLink", "Pagination", "Progress", "Radio", "Selectbox", "TextInput")
_IMPORTED = re.compile(r"""(?:from|import)\s*["'`]\./([\w.-]+\.js)["'`]""")
# The calendar follows the browser's language: en-GB gives weeks from Monday and English months, as on our pages.
_SCRIPT = """
Object.defineProperty(navigator, "language", { value: "en-GB", configurable: true })
{
  const root = document.documentElement, until = performance.now() + 3000
  root.toggleAttribute("data-bare", /\\/wallboard\\/?$/.test(location.pathname))
  // The page below its title is shown when it is complete, or after three seconds.
  root.toggleAttribute("data-cold", true)
  const check = () => {
    const app = document.querySelector("[data-testid=stApp]")
    const drawn = app?.dataset.testScriptState === "notRunning" && app.querySelector(".page-head, .board")
    if ((drawn && !app.querySelector("[data-testid=stMain] [data-testid=stSkeleton]")) || performance.now() > until)
      root.removeAttribute("data-cold")
    else setTimeout(check, 50)
  }
  check()
}
"""


def additions() -> dict[bytes, bytes]:
    """The HTML to insert before the end of head and body; at the end of body our styles override Streamlit's."""
    scripts = Path(st.__file__).parent / "static/static/js"
    chunks: dict[str, None] = {}
    entries = [file.name for name in PRELOADED for file in scripts.glob(f"{name}.*.js")]
    left = list(entries)
    while left:  # and their imports, which the browser would find only after it reads each file
        if (name := left.pop()) not in chunks:
            chunks[name] = None
            left += _IMPORTED.findall((scripts / name).read_text(encoding="utf-8"))
    links = "".join(f'<link rel="modulepreload" crossorigin href="/static/js/{name}">' for name in chunks)
    links += "".join(f'<script type="module" crossorigin src="/static/js/{name}"></script>' for name in entries)
    style = "".join((UI_DIR / name).read_text(encoding="utf-8") for name in ("ui.css", "shell.css"))
    script = f"<script>{_SCRIPT}{(UI_DIR / 'browser_history.js').read_text(encoding='utf-8')}</script>"
    return {b"</head>": f"{script}{links}".encode(), b"</body>": f"<style>{style}</style>".encode()}


class Shell:
    """ASGI middleware that inserts our styles and scripts into Streamlit's page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._additions = app, additions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "text/html" not in MutableHeaders(scope=scope).get("accept", ""):
            await self._app(scope, receive, send)
            return
        request = MutableHeaders(scope=scope)
        for name in (
            "accept-encoding",
            "if-none-match",
            "if-modified-since",
            "range",
        ):  # it must come complete
            del request[name]
        started: list[Message] = []
        body = bytearray()

        async def changed(message: Message) -> None:
            if message["type"] == "http.response.start" and _is_page(message):
                started.append(message)
            elif started and message["type"] == "http.response.body":
                body.extend(message.get("body", b""))
                if message.get("more_body"):
                    return
                page = bytes(body)
                for end, added in self._additions.items():
                    page = page.replace(end, added + end, 1)
                headers = MutableHeaders(raw=started[0]["headers"])
                headers["content-length"] = str(len(page))
                del headers["etag"], headers["last-modified"]
                await send(started[0])
                await send({"type": "http.response.body", "body": page})
            else:
                await send(message)

        await self._app(scope, receive, changed)


def _is_page(message: Message) -> bool:
    return message["status"] == 200 and MutableHeaders(raw=message["headers"]).get("content-type", "").startswith(
        "text/html"
    )
