"""Google's identity tokens: which are taken, what the certificates cost, and what happens without them."""

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.asgi_server import AsgiServer
from tests.support.google_tokens import CertificateServer, SigningKey, claims_of, encoded
from tests.support.ports import free_port

from goagents.errors import ConfigurationError, Unauthenticated
from goagents.identity.base import IdentityUnavailable
from goagents.identity.google import MAX_AGE, MIN_AGE, REFETCH, STALE, GoogleTokens
from goagents.testing.clocks import VirtualClock

URL = "https://worker.example/worker"
ACCOUNT = "tasks@test.iam.gserviceaccount.com"
OURS, NEXT, FOREIGN = SigningKey("key-1"), SigningKey("key-2"), SigningKey("key-1")


@pytest.fixture(scope="module")
def served() -> Iterator[tuple[CertificateServer, str]]:
    app = CertificateServer()
    with AsgiServer(app) as made:
        yield app, f"{made.url}/certs"


@pytest.fixture
def certificates(served: tuple[CertificateServer, str]) -> CertificateServer:
    app, _ = served
    app.serve(OURS)
    return app


@pytest.fixture
def server(served: tuple[CertificateServer, str], certificates: CertificateServer) -> str:
    return served[1]


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
def tokens(server: str, clock: VirtualClock) -> GoogleTokens:
    return GoogleTokens(certs_url=server, clock=clock)


def good(**changes: Any) -> str:
    return OURS.token(claims_of(ACCOUNT, URL, **changes))


async def test_a_good_token_names_its_account(tokens: GoogleTokens, certificates: CertificateServer):
    for issuer in ("https://accounts.google.com", "accounts.google.com"):
        assert await tokens.verify(good(iss=issuer), [URL]) == ACCOUNT
    assert await tokens.verify(good(), ["https://other.example", URL]) == ACCOUNT
    assert certificates.fetches == 1


BAD = {
    "another audience": (good(aud="https://other.example/worker"), "another audience than https://worker"),
    "several audiences": (good(aud=[URL]), "wrong|audience"),
    "no audience": (good(aud=None), "another audience"),
    "expired": (good(iat=int(time.time()) - 7200, exp=int(time.time()) - 3600), "has expired"),
    "from the future": (good(iat=int(time.time()) + 3600, exp=int(time.time()) + 7200), "not valid yet"),
    "no expiry": (good(exp=None), "content is wrong"),
    "times that are none": (good(iat="now", exp="never"), "content is wrong"),
    "another issuer": (good(iss="https://accounts.example"), "not issued by Google"),
    "an issuer that looks like it": (good(iss="https://accounts.google.com.example"), "not issued by Google"),
    "no issuer": (good(iss=None), "not issued by Google"),
    "an unverified address": (good(email_verified=False), "no verified e-mail"),
    "an address verified by saying so": (good(email_verified="true"), "no verified e-mail"),
    "an address nobody speaks of": (good(email_verified=None), "no verified e-mail"),
    "no address": (good(email=None), "no verified e-mail"),
    "an address that is none": (good(email=[ACCOUNT]), "no verified e-mail"),
    "somebody's key under our id": (FOREIGN.token(claims_of(ACCOUNT, URL)), "signature"),
    "a key Google has not": (NEXT.token(claims_of(ACCOUNT, URL)), "a key that is not Google's"),
    "no key": (OURS.token(claims_of(ACCOUNT, URL), kid=None), "not signed as Google's"),
    "a key that is none": (OURS.token(claims_of(ACCOUNT, URL), kid=["key-1"]), "not signed as Google's"),
    "no signature": (OURS.unsigned(claims_of(ACCOUNT, URL)), "not signed as Google's"),
    "the certificate as the secret": (OURS.confused(claims_of(ACCOUNT, URL)), "not signed as Google's"),
    "an elliptic signature": (OURS.token(claims_of(ACCOUNT, URL), alg="ES256"), "not signed as Google's"),
    "RS256 said, HMAC done": (
        OURS.confused(claims_of(ACCOUNT, URL)).replace(
            encoded(b'{"alg": "HS256"')[:10], encoded(b'{"alg": "RS256"')[:10], 1
        ),
        "signature|not signed",
    ),
    "claims changed afterwards": (
        ".".join([good().split(".")[0], good(email="admin@example.com").split(".")[1], good().split(".")[2]]),
        "signature",
    ),
    "a signature cut short": (good()[:-20], "signature|no identity token"),
    "claims that are a list": (OURS.token([1, 2]), "no identity token"),
    "bottomless claims": (f"{good().split('.')[0]}.{encoded(b'[' * 9000)}.AAAA", "no identity token"),
    "no token": ("the-key", "no identity token"),
    "three empty parts": ("..", "no identity token"),
    "not base64": ("a.!!!.c", "no identity token"),
    "half a character": ("a.\udcff.c", "no identity token"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
async def test_a_token_that_proves_nothing_is_refused_and_not_repeated(tokens: GoogleTokens, case: str):
    token, message = BAD[case]
    with pytest.raises(Unauthenticated, match=message) as raised:
        await tokens.verify(token, [URL])
    told = f"{raised.value} {raised.value.problem()} {raised.value.__cause__}"
    assert ACCOUNT not in told
    assert not token[20:60] or token[20:60] not in told


async def test_certificates_are_fetched_once_together_and_kept_as_long_as_they_say(
    tokens: GoogleTokens, certificates: CertificateServer, clock: VirtualClock
):
    await asyncio.gather(*(tokens.verify(good(), [URL]) for _ in range(20)))
    assert certificates.fetches == 1
    await clock.advance(19_799)
    await tokens.verify(good(), [URL])
    assert certificates.fetches == 1
    await clock.advance(1)
    await tokens.verify(good(), [URL])
    assert certificates.fetches == 2


@pytest.mark.parametrize(
    ("said", "kept"),
    [("max-age=1", MIN_AGE), ("max-age=99999999999999", MAX_AGE), ("no-store", MIN_AGE), ("max-age=x", MIN_AGE)],
)
async def test_how_long_they_are_kept_is_bounded(
    tokens: GoogleTokens, certificates: CertificateServer, clock: VirtualClock, said: str, kept: float
):
    certificates.max_age = said
    await tokens.verify(good(), [URL])
    await clock.advance(kept - 1)
    await tokens.verify(good(), [URL])
    assert certificates.fetches == 1
    await clock.advance(1)
    await tokens.verify(good(), [URL])
    assert certificates.fetches == 2


async def test_a_new_key_is_looked_for_but_not_for_each_token(
    tokens: GoogleTokens, certificates: CertificateServer, clock: VirtualClock
):
    await tokens.verify(good(), [URL])
    rotated = NEXT.token(claims_of(ACCOUNT, URL))
    for _ in range(5):
        with pytest.raises(Unauthenticated):
            await tokens.verify(rotated, [URL])
    assert certificates.fetches == 1
    certificates.keys = [NEXT]
    await clock.advance(REFETCH)
    assert await tokens.verify(rotated, [URL]) == ACCOUNT
    assert certificates.fetches == 2
    with pytest.raises(Unauthenticated, match="not Google's"):
        await tokens.verify(good(), [URL])  # taken back


async def unavailable(tokens: GoogleTokens, token: str) -> None:
    with pytest.raises(IdentityUnavailable) as raised:
        await tokens.verify(token, [URL])
    assert (raised.value.status, raised.value.retryable) == (503, True)


@pytest.mark.parametrize(
    ("status", "content"),
    [(500, None), (302, None), (200, b"<html>"), (200, b"[]"), (200, b'{"a": 1}'), (200, b"x" * (2 << 20))],
)
async def test_without_certificates_nobody_is_let_in_and_no_token_is_called_wrong(
    tokens: GoogleTokens,
    certificates: CertificateServer,
    clock: VirtualClock,
    status: int,
    content: bytes | None,
    caplog: pytest.LogCaptureFixture,
):
    certificates.status, certificates.content = status, content
    await unavailable(tokens, good())
    await unavailable(tokens, good())
    assert certificates.fetches == 1  # and they are not asked for by each request
    assert "Google's certificates cannot be had from http://127.0.0.1" in caplog.text
    certificates.status, certificates.content = 200, None
    await clock.advance(REFETCH)
    assert await tokens.verify(good(), [URL]) == ACCOUNT


async def test_a_server_of_certificates_that_is_not_there():
    await unavailable(GoogleTokens(certs_url=f"http://127.0.0.1:{free_port()}/certs"), good())


async def test_a_server_of_certificates_that_does_not_answer():
    over = asyncio.Event()

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await over.wait()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    began = time.monotonic()
    await unavailable(GoogleTokens(certs_url=f"http://127.0.0.1:{port}/certs", timeout=0.2), good())
    assert time.monotonic() - began < 3
    over.set()
    listener.close()
    await asyncio.sleep(0.05)  # the handler sees it


async def test_known_keys_outlast_an_outage_of_a_day(
    tokens: GoogleTokens, certificates: CertificateServer, clock: VirtualClock
):
    await tokens.verify(good(), [URL])
    certificates.status = 503
    await clock.advance(19_800 + STALE - 60)
    assert await tokens.verify(good(), [URL]) == ACCOUNT
    await unavailable(tokens, NEXT.token(claims_of(ACCOUNT, URL)))  # it may be a new one of Google's
    await clock.advance(60)
    await unavailable(tokens, good())
    certificates.status = 200
    await clock.advance(REFETCH)
    assert await tokens.verify(good(), [URL]) == ACCOUNT


async def test_a_request_that_goes_away_while_certificates_are_fetched(server: str, clock: VirtualClock):
    tokens = GoogleTokens(certs_url=server, clock=clock)
    first = asyncio.create_task(tokens.verify(good(), [URL]))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    await unavailable(tokens, good())
    await clock.advance(REFETCH)
    assert await tokens.verify(good(), [URL]) == ACCOUNT


def test_a_bundle_that_is_none(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("no certificate")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(ConfigurationError, match="ca_bundle"):
            GoogleTokens(ca_bundle=str(tmp_path / name))
