"""What a server may send without harm: endless, inflated, torn, mislabelled."""

import asyncio
import contextlib
import gzip
import json
import tracemalloc
import zlib

import pytest
from aiohttp import web
from tests.support.http_tools import Opener, Serve, call, text_of

from goagents.errors import ToolFailed
from goagents.messages import ImagePart

MIB = 1 << 20


def answering(body: bytes, status: int = 200, **headers: str):
    async def handler(_request: web.Request) -> web.Response:
        return web.Response(body=body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()})

    return handler


async def test_an_endless_answer_is_left_after_the_bound(opener: Opener, serve: Serve):
    sent = 0
    gone = asyncio.Event()

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        try:
            while True:
                await response.write(b"x" * 65_536)
                sent += 65_536
        except ConnectionError:
            gone.set()
        return response

    base = await serve({"/": endless})
    tool = await opener.tool(url=base, max_output="4KiB", timeout="10s")
    text = text_of(await call(tool))
    assert len(text.encode()) <= 4096
    assert "[cut: the answer is longer than the tool's max_output of 4096 bytes; ask for less]" in text
    await asyncio.wait_for(gone.wait(), 60)
    assert sent < 32 * MIB  # what fits into the sockets' buffers, not what there was


async def test_a_cut_answer_tells_how_long_it_is(opener: Opener, serve: Serve):
    base = await serve({"/": answering(b"y" * 100_000, Content_Type="text/plain")})
    tool = await opener.tool(url=base, max_output="1KiB")
    text = text_of(await call(tool))
    assert text.endswith("max_output of 1024 bytes; its body has 100000 bytes; ask for less]")
    assert len(text) == 1024


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_a_bomb_is_inflated_no_further_than_the_bound(opener: Opener, serve: Serve, encoding: str):
    zeros = bytes(64 * MIB)
    bomb = gzip.compress(zeros, 9, mtime=0) if encoding == "gzip" else zlib.compress(zeros, 9)
    del zeros
    base = await serve({"/": answering(bomb, Content_Type="text/plain", Content_Encoding=encoding)})
    tool = await opener.tool(url=base, max_output="8KiB")
    tracemalloc.start()
    try:
        text = text_of(await call(tool))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(text.encode()) <= 8192
    assert peak < 4 * MIB


async def test_an_endless_stream_of_empty_gzip_members_is_left(opener: Opener, serve: Serve):
    async def endless(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/plain", "Content-Encoding": "gzip"})
        await response.prepare(request)
        with contextlib.suppress(ConnectionError):
            while True:
                await response.write(gzip.compress(b"", mtime=0) * 500)
        return response

    tool = await opener.tool(url=await serve({"/": endless}), timeout="5s", max_output="4KiB")
    assert "HTTP 200 OK" in text_of(await call(tool))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b"one ", mtime=0) + gzip.compress(b"two", mtime=0), "gzip"),
        (zlib.compress(b"one two"), "deflate"),
        (zlib.compress(b"one two", wbits=-15), "deflate"),
        (gzip.compress(b"one two", mtime=0), "x-gzip"),
    ],
)
async def test_compressed_forms_in_the_wild(opener: Opener, serve: Serve, body: bytes, encoding: str):
    base = await serve({"/": answering(body, Content_Type="text/plain", Content_Encoding=encoding)})
    assert text_of(await call(await opener.tool(url=base))).endswith("one two")


@pytest.mark.parametrize("body", [b"not gzip at all", gzip.compress(bytes(range(256)), mtime=0)[:-9]])
async def test_broken_compression_is_a_failure(opener: Opener, serve: Serve, body: bytes):
    base = await serve({"/": answering(body, Content_Type="text/plain", Content_Encoding="gzip")})
    with pytest.raises(ToolFailed, match="compressed"):
        await call(await opener.tool(url=base))


async def test_an_answer_that_ends_too_early_is_a_failure(opener: Opener):
    async def torn(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(torn, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ToolFailed, match="ended before it was complete"):
            await call(await opener.tool(url=f"http://127.0.0.1:{port}/"))


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"", "closed the connection before it answered"),
        (b"220 ftp.example.com ready\r\n\r\n", "does not speak proper HTTP"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"h" * 100_000 + b"\r\n\r\n", "does not speak proper HTTP"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "HTTP|complete"),
    ],
)
async def test_what_is_no_http_is_a_failure(opener: Opener, reply: bytes, message: str):
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(reply)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(odd, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(ToolFailed, match=message):
            await call(await opener.tool(url=f"http://127.0.0.1:{port}/"))


@pytest.mark.parametrize(
    ("body", "content_type", "expected"),
    [
        ("naïve".encode("latin-1"), "text/plain; charset=iso-8859-1", "naïve"),
        ("naïve".encode(), "text/plain; charset=no-such-charset", "naïve"),
        ("naïve".encode(), "text/plain; charset=hex", "naïve"),
        (b"\\u00e9", "text/plain; charset=unicode_escape", "\\u00e9"),
        ("naïve".encode(), "text/plain; charset=ascii", "naïve"),
        (b"na\xefve", "text/plain; charset=utf-8", "na\ufffdve"),
        ("日本".encode("shift_jis"), "text/plain; charset=Shift_JIS", "日本"),
        ("日本".encode("utf-16"), "text/plain", "日本"),
        (b"\xef\xbb\xbfmark", "text/plain", "mark"),
    ],
)
async def test_charsets(opener: Opener, serve: Serve, body: bytes, content_type: str, expected: str):
    base = await serve({"/": answering(body, Content_Type=content_type)})
    assert text_of(await call(await opener.tool(url=base))).partition("\n")[2] == expected


async def test_a_cut_never_tears_a_character(opener: Opener, serve: Serve):
    base = await serve({"/": answering("日".encode() * 5000, Content_Type="text/plain; charset=utf-8")})
    for size in range(300, 304):
        text = text_of(await call(await opener.tool(url=base, max_output=size)))
        assert "\ufffd" not in text
        assert len(text.encode()) <= size


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{ "a" : [ 1, 2.5 ],\n "b": "\\u65e5" }', '{"a":[1,2.5],"b":"日"}'),
        (b"{broken", "{broken"),
        (b'{"n": NaN, "x": 1e999}', '{"n": NaN, "x": 1e999}'),
        (b"[" * 3000, "[" * 3000),
        (b"9" * 5000, "9" * 5000),
        (b'"\\ud800"', '"?"'),
    ],
)
async def test_json_is_made_compact_and_what_is_not_json_stays(
    opener: Opener, serve: Serve, body: bytes, expected: str
):
    base = await serve({"/": answering(body, Content_Type="application/json")})
    assert text_of(await call(await opener.tool(url=base))).partition("\n")[2] == expected


async def test_wide_json_is_compacted_before_it_is_cut(opener: Opener, serve: Serve):
    value = {"rows": [{"id": n} for n in range(60)]}
    base = await serve({"/": answering(json.dumps(value, indent=2).encode(), Content_Type="application/json")})
    text = text_of(await call(await opener.tool(url=base, max_output=1000)))
    assert json.loads(text.partition("\n")[2]) == value


async def test_headers_that_are_no_text_do_no_harm(opener: Opener):
    async def odd(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 201 Created\r\nLocation: /\xff\xfe\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(odd, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        assert text_of(await call(await opener.tool(url=f"http://127.0.0.1:{port}/"))).encode().endswith(b"\nok")


async def test_large_and_strange_images_are_described(opener: Opener, serve: Serve):
    base = await serve(
        {
            "/large": answering(bytes(MIB + 1), Content_Type="image/png"),
            "/fits": answering(bytes(MIB), Content_Type="image/png"),
            "/tiff": answering(bytes(10), Content_Type="image/tiff"),
            "/none": answering(b"", Content_Type="image/png"),
        }
    )
    tool = await opener.tool(url=base)
    assert text_of(await call(tool, path="large")).endswith(f"(image/png, {MIB + 1} bytes, not shown)")
    assert text_of(await call(tool, path="tiff")).endswith("(image/tiff, 10 bytes, not shown)")
    assert text_of(await call(tool, path="none")).endswith("(no body)")
    assert [type(part) for part in (await call(tool, path="fits")).content][1:] == [ImagePart]


async def test_an_error_body_is_shown_so_that_the_model_can_mend_it(opener: Opener, serve: Serve):
    problem = {"errors": [{"path": "age", "message": "must be positive"}]}
    base = await serve(
        {"/": answering(json.dumps(problem).encode(), 422, Content_Type="application/problem+json", Retry_After="7")}
    )
    result = await call(await opener.tool(url=base))
    assert result.is_error
    assert text_of(result) == (
        "HTTP 422 Unprocessable Entity (application/problem+json)\nRetry-After: 7\n"
        '{"errors":[{"path":"age","message":"must be positive"}]}'
    )


async def test_connections_are_kept_alive_and_survive_a_server_that_closed_them(opener: Opener, serve: Serve):
    peers = []

    async def handler(request: web.Request) -> web.Response:
        peers.append(request.transport.get_extra_info("peername"))
        return web.Response(text="ok")

    tool = await opener.tool(url=await serve({"/": handler}))
    for _ in range(5):
        await call(tool)
    assert len(set(peers)) == 1
    before = len(peers)
    await asyncio.gather(*(call(tool) for _ in range(20)))
    assert len(peers) == before + 20
