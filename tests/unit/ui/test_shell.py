"""What the app puts into Streamlit's page, and that it leaves all else as it is."""

import asyncio

import pytest
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.types import Message

from pbx.ui.shell import Shell

PAGE = "<html><head><title>Streamlit</title></head><body><div id=root></div></body></html>"


def asked(answer: Response, accept: str = "text/html,*/*", **more: str) -> tuple[int, dict[str, str], str]:
    """Status, headers and text of what the shell makes of an answer."""
    sent: list[Message] = []
    seen: dict[str, str] = {}

    async def app(scope, receive, send) -> None:
        seen.update({name.decode(): value.decode() for name, value in scope["headers"]})
        await answer(scope, receive, send)

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
    told = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return sent[0]["status"], told | {"asked": " ".join(seen)}, b"".join(one.get("body", b"") for one in sent).decode()


def test_a_page_brings_style_and_script_and_the_code_of_its_elements() -> None:
    status, headers, text = asked(HTMLResponse(PAGE))
    head, _, body = text.partition("</head>")
    assert status == 200
    assert int(headers["content-length"]) == len(text.encode())
    assert '"en-GB"' in head
    assert 'src="/static/js/Html.' in head
    assert ".page-head" in body.partition("</body>")[0]


def test_the_page_is_asked_for_whole_and_never_taken_from_before() -> None:
    _, headers, _ = asked(
        HTMLResponse(PAGE, headers={"etag": '"1"'}), **{"if-none-match": '"1"', "accept-encoding": "gzip"}
    )
    assert headers["asked"] == "accept"
    assert "etag" not in headers


@pytest.mark.parametrize(
    ("answer", "accept"),
    [
        (PlainTextResponse("</head>"), "text/html"),
        (HTMLResponse(PAGE, 404), "text/html"),
        (HTMLResponse(PAGE), "application/json"),
    ],
    ids=["no page", "an error", "a request of a script"],
)
def test_what_is_no_page_stays_as_it_is(answer: Response, accept: str) -> None:
    assert asked(answer, accept)[2] == bytes(answer.body).decode()
