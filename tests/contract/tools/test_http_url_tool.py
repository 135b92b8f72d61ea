"""An http tool with only a `url`, against httpbinx."""

import json

import jsonschema_rs
import pytest
from tests.support.http_tools import CONTEXT, Opener, call, text_of
from tests.support.ports import free_port

from goagents.errors import AddressRefused, ToolFailed, ToolInvalidArguments, ToolTimedOut, ToolUnavailable
from goagents.messages import ImagePart
from goagents.tools.base import ToolResult


def echoed(result: ToolResult) -> dict:
    head, _, body = text_of(result).partition("\n")
    assert head == "HTTP 200 OK"
    return json.loads(body)


async def test_the_definition_says_what_the_model_may_do(opener: Opener):
    tool = await opener.tool(url="http://127.0.0.1:1/v1", description="Customers.", timeout="7s", max_output="1KiB")
    definition = tool.definition
    assert (definition.name, definition.description) == ("api", "Customers.")
    assert (definition.effect, definition.timeout, definition.max_output) == ("read", 7.0, 1024)
    assert set(definition.parameters["properties"]) == {"path", "query"}
    jsonschema_rs.validator_for(definition.parameters)


@pytest.mark.parametrize("form", [{}, {"method": "GET", "parameters": {"type": "object"}}])
async def test_the_description_is_resolved(opener: Opener, form: dict):
    opener.lent.variables["SHOP"] = "Acme"
    tool = await opener.tool(url="http://127.0.0.1:1/", description="${SHOP}'s customers, $${id} each", **form)
    assert tool.definition.description == "Acme's customers, ${id} each"
    with pytest.raises(ToolUnavailable, match="GONE"):
        await opener.tool(url="http://127.0.0.1:1/", description="${GONE}", **form)


async def test_more_methods_are_offered_where_listed(opener: Opener):
    tool = await opener.tool(url="http://127.0.0.1:1/", methods=["GET", "POST"])
    properties = tool.definition.parameters["properties"]
    assert tool.definition.effect == "unsafe"
    assert properties["method"]["enum"] == ["GET", "POST"]
    assert "body" in properties
    only_post = await opener.tool(url="http://127.0.0.1:1/", methods=["POST"])
    assert "method" not in only_post.definition.parameters["properties"]
    overridden = await opener.tool(url="http://127.0.0.1:1/", methods=["POST"], effect="idempotent")
    assert overridden.definition.effect == "idempotent"


async def test_path_and_query_reach_the_server(opener: Opener, httpbin: str):
    tool = await opener.tool(url=f"{httpbin}/anything")
    sent = echoed(await call(tool, query={"q": "a b&c", "n": [1, 2], "yes": True}))
    assert sent["method"] == "GET"
    assert sent["args"] == {"q": "a b&c", "n": ["1", "2"], "yes": "true"}
    assert "idempotency-key" not in sent["headers"]
    assert sent["headers"]["user-agent"].startswith("goagents/")


async def test_a_body_is_sent_as_json_with_the_idempotency_key(opener: Opener, httpbin: str):
    tool = await opener.tool(url=f"{httpbin}/anything", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    for method in ("POST", "PUT", "PATCH", "DELETE"):
        sent = echoed(await call(tool, method=method, body={"name": "Zoë", "tags": [1, None]}))
        assert sent["method"] == method
        assert json.loads(sent["data"]) == {"name": "Zoë", "tags": [1, None]}
        assert sent["headers"]["content-type"] == "application/json"
        assert sent["headers"]["idempotency-key"] == CONTEXT.idempotency_key


async def test_a_method_that_is_not_listed_is_refused(opener: Opener, httpbin: str):
    tool = await opener.tool(url=f"{httpbin}/anything")
    with pytest.raises(ToolInvalidArguments, match="this tool allows GET"):
        await call(tool, method="DELETE")
    with pytest.raises(ToolInvalidArguments, match="takes none"):
        await call(tool, body={})


async def test_head_has_no_body(opener: Opener, httpbin: str):
    tool = await opener.tool(url=f"{httpbin}/get", methods=["GET", "HEAD"])
    assert tool.definition.effect == "read"
    assert text_of(await call(tool, method="HEAD")).endswith("(no body)")


@pytest.mark.parametrize("status", [400, 401, 404, 422, 500, 503])
async def test_a_bad_status_is_an_error_result(opener: Opener, httpbin: str, status: int):
    tool = await opener.tool(url=f"{httpbin}/status")
    result = await call(tool, path=str(status))
    assert result.is_error
    assert text_of(result).startswith(f"HTTP {status} ")


@pytest.mark.parametrize("path", ["gzip", "deflate"])
async def test_compressed_answers_are_read(opener: Opener, httpbin: str, path: str):
    tool = await opener.tool(url=httpbin)
    assert echoed(await call(tool, path=path))["method"] == "GET"


async def test_an_encoding_not_asked_for_is_a_failure(opener: Opener, httpbin: str):
    tool = await opener.tool(url=httpbin)
    with pytest.raises(ToolFailed, match="not asked for"):
        await call(tool, path="brotli")


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
async def test_images_come_as_images(opener: Opener, httpbin: str, kind: str):
    tool = await opener.tool(url=f"{httpbin}/image")
    result = await call(tool, path=kind)
    (image,) = [part for part in result.content if isinstance(part, ImagePart)]
    assert image.media_type == f"image/{kind}"
    assert image.data


async def test_text_html_xml_and_svg_come_as_they_are(opener: Opener, httpbin: str):
    tool = await opener.tool(url=httpbin)
    assert "<html" in text_of(await call(tool, path="html")).lower()
    assert text_of(await call(tool, path="xml")).startswith("HTTP 200 OK (application/xml)\n<?xml")
    assert "<svg" in text_of(await call(tool, path="image/svg"))


async def test_other_binaries_are_described(opener: Opener, httpbin: str):
    tool = await opener.tool(url=httpbin)
    assert text_of(await call(tool, path="bytes/333")).endswith("(application/octet-stream, 333 bytes, not shown)")


async def test_the_bomb_of_httpbinx_is_cut(opener: Opener, httpbin: str):
    tool = await opener.tool(url=httpbin, max_output="2KiB")
    text = text_of(await call(tool, path="bombs/gzip"))
    assert len(text.encode()) <= 2048


async def test_a_slow_answer_times_out(opener: Opener, httpbin: str):
    tool = await opener.tool(url=f"{httpbin}/delay", timeout="300ms")
    with pytest.raises(ToolTimedOut, match=r"within 0\.3 s"):
        await call(tool, path="5")


async def test_a_drip_times_out_too(opener: Opener, httpbin: str):
    tool = await opener.tool(url=f"{httpbin}/drip", timeout="500ms")
    with pytest.raises(ToolTimedOut):
        await call(tool, query={"duration": 5, "numbytes": 50, "delay": 0})


async def test_nobody_listens(opener: Opener):
    tool = await opener.tool(url=f"http://127.0.0.1:{free_port()}/")
    with pytest.raises(ToolFailed, match=r"cannot connect to 127\.0\.0\.1"):
        await call(tool)


async def test_half_a_surrogate_pair_is_an_argument_error(opener: Opener, httpbin: str):
    tool = await opener.tool(url=f"{httpbin}/anything", methods=["GET", "POST"])
    for arguments in ({"path": "\ud800"}, {"query": {"q": "\ud800"}}, {"method": "POST", "body": {"a": "\ud800"}}):
        with pytest.raises(ToolInvalidArguments, match="surrogate"):
            await call(tool, **arguments)


async def test_a_closed_toolset_opens_again(opener: Opener, httpbin: str):
    toolset = opener.toolset(url=f"{httpbin}/anything")
    (tool,) = await toolset.open()
    await call(tool)
    await toolset.aclose()
    (tool,) = await toolset.open()
    assert echoed(await call(tool))["method"] == "GET"


@pytest.mark.parametrize("url", ["http://user:secret@127.0.0.1/", "http://127.0.0.1:99999/", "http://[::1/"])
async def test_an_unusable_url_makes_the_tool_unavailable(opener: Opener, url: str):
    with pytest.raises(ToolUnavailable) as caught:
        await opener.tool(url=url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1/", "http://2130706433/", "http://[::ffff:127.0.0.1]/",
                                 "http://169.254.169.254/latest/meta-data/"])  # fmt: skip
async def test_a_private_url_makes_the_tool_unavailable(opener: Opener, url: str):
    with pytest.raises(ToolUnavailable, match=r"allow\.addresses|four plain decimal") as caught:
        await opener.tool(url=url, allowed=())
    assert isinstance(caught.value.__cause__, AddressRefused)
