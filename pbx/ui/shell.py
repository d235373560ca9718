"""What a page brings along before Streamlit draws anything, so that nothing on it moves once it is there.

Streamlit's own page holds none of our style: what came with the first elements moved them when it took effect. It
loads the code of each kind of element when the first of them is drawn, and draws the sidebar once it knows the pages.
"""

import re
from pathlib import Path

import streamlit as st
from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from pbx.ui.elements import HERE

# Elements that pages begin with; their code is loaded while the page's script runs. (Charts know their height.)
PRELOADED: tuple[str, ...] = ("BidiComponent", "Button", "ButtonGroup", "Checkbox", "DateInput", "Html", "Metric")
PRELOADED += ("Multiselect", "NumberInput", "PageLink", "Pagination", "Progress", "Radio", "Selectbox", "TextInput")
_IMPORTED = re.compile(r"""(?:from|import)\s*["'`]\./([\w.-]+\.js)["'`]""")
# Weeks begin on Monday, and months are English, as all of the page is: the calendar asks the browser's language.
_SCRIPT = """
Object.defineProperty(navigator, "language", { value: "en-GB", configurable: true })
{
  const root = document.documentElement, until = performance.now() + 3000
  root.toggleAttribute("data-bare", /\\/wallboard\\/?$/.test(location.pathname))
  // What is below a page's head is shown once all of it is there, or after three seconds as far as it is.
  root.toggleAttribute("data-cold", true)
  const look = () => {
    const app = document.querySelector("[data-testid=stApp]")
    const drawn = app?.dataset.testScriptState === "notRunning" && app.querySelector(".page-head, .board")
    if ((drawn && !app.querySelector("[data-testid=stMain] [data-testid=stSkeleton]")) || performance.now() > until)
      root.removeAttribute("data-cold")
    else setTimeout(look, 50)
  }
  look()
}
"""


def additions() -> dict[bytes, bytes]:
    """What comes before the end of a page's head, and of its body: there our style decides over Streamlit's."""
    scripts = Path(st.__file__).parent / "static/static/js"
    chunks: dict[str, None] = {}
    entries = [file.name for name in PRELOADED for file in scripts.glob(f"{name}.*.js")]
    left = list(entries)
    while left:  # with what each imports, which the browser would only see once it has read it
        if (name := left.pop()) not in chunks:
            chunks[name] = None
            left += _IMPORTED.findall((scripts / name).read_text(encoding="utf-8"))
    links = "".join(f'<link rel="modulepreload" crossorigin href="/static/js/{name}">' for name in chunks)
    links += "".join(f'<script type="module" crossorigin src="/static/js/{name}"></script>' for name in entries)
    style = "".join((HERE / name).read_text(encoding="utf-8") for name in ("ui.css", "shell.css"))
    script = f"<script>{_SCRIPT}{(HERE / 'history.js').read_text(encoding='utf-8')}</script>"
    return {b"</head>": f"{script}{links}".encode(), b"</body>": f"<style>{style}</style>".encode()}


class Shell:
    """ASGI middleware that puts our style and script into Streamlit's page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._additions = app, additions()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or "text/html" not in MutableHeaders(scope=scope).get("accept", ""):
            await self._app(scope, receive, send)
            return
        asked = MutableHeaders(scope=scope)
        for name in ("accept-encoding", "if-none-match", "if-modified-since", "range"):  # the page whole, and as it is
            del asked[name]
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
