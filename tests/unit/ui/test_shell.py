"""The app adds its styles and scripts to Streamlit's page and changes no other response."""

import asyncio

import pytest
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import Message

from pbx.ui.shell import Shell

PAGE = "<html><head><title>Streamlit</title></head><body><div id=root></div></body></html>"


def respond(response: Response, accept: str = "text/html,*/*", **more: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of a response after the shell has processed it."""
    sent: list[Message] = []
    request_headers: dict[str, str] = {}

    async def app(scope, receive, send) -> None:
        request_headers.update({name.decode(): value.decode() for name, value in scope["headers"]})
        await response(scope, receive, send)

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.request"}

    headers = {"accept": accept, **more}
    scope = {
        "type": "http",
        "method": "GET",
        "path": "/queues",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(Shell(app)(scope, receive, send))
    response_headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return (
        sent[0]["status"],
        response_headers | {"requested": " ".join(request_headers)},
        b"".join(message.get("body", b"") for message in sent).decode(),
    )


def test_a_page_gets_styles_scripts_and_component_code() -> None:
    status, headers, text = respond(HTMLResponse(PAGE))
    head, _, body = text.partition("</head>")
    assert status == 200
    assert int(headers["content-length"]) == len(text.encode())
    assert '"en-GB"' in head
    assert 'src="/static/js/Html.' in head
    assert ".page-head" in body.partition("</body>")[0]


def test_the_page_is_requested_without_compression_and_cache() -> None:
    _, headers, _ = respond(
        HTMLResponse(PAGE, headers={"etag": '"1"'}), **{"if-none-match": '"1"', "accept-encoding": "gzip"}
    )
    assert headers["requested"] == "accept"
    assert "etag" not in headers


@pytest.mark.parametrize(
    ("response", "accept"),
    [
        (PlainTextResponse("</head>"), "text/html"),
        (HTMLResponse(PAGE, 404), "text/html"),
        (HTMLResponse(PAGE), "application/json"),
    ],
    ids=["not HTML", "an error", "not requested as HTML"],
)
def test_other_responses_are_unchanged(response: Response, accept: str) -> None:
    assert respond(response, accept)[2] == bytes(response.body).decode()
