"""Who may call the worker and the sweeper."""

from collections.abc import Collection
from typing import Any

import pytest
from tests.unit.access.test_authentication import token

from goagents.access.authentication import Mode
from goagents.access.internal import KEY_HOLDER, authenticate_internal
from goagents.access.principal import Principal
from goagents.errors import GoAgentsError, PermissionDenied, Unauthenticated
from goagents.identity.base import IdentityUnavailable, TokenVerifier
from goagents.spec.config import InternalConfig

URL = "http://worker.internal:8080/worker"
TASKS, OTHER = "tasks@test.iam.gserviceaccount.com", "other@test.iam.gserviceaccount.com"


class Verifier:
    """Knows tokens by heart: `token of E-MAIL for AUDIENCE`. Keeps the audiences it was asked for."""

    def __init__(self, failure: GoAgentsError | None = None) -> None:
        self.failure = failure
        self.asked: list[Collection[str]] = []

    async def verify(self, token: str, audiences: Collection[str]) -> str:
        self.asked.append(audiences)
        if self.failure is not None:
            raise self.failure
        for audience in audiences:
            if token.endswith(f"-for-{audience}"):
                return token.removesuffix(f"-for-{audience}")
        raise Unauthenticated("The token is wrong.")


async def caller(
    *accounts: str,
    mode: Mode = "none",
    key: str | None = None,
    audience: str | None = None,
    url: str = URL,
    verifier: Verifier | None = None,
    shared: bool = True,
    iam: bool = False,
    **headers: str,
) -> Principal:
    async def get_verifier() -> TokenVerifier:
        if verifier is None:
            raise AssertionError("nobody should ask for a verifier")
        return verifier

    return await authenticate_internal(
        InternalConfig(service_accounts=accounts, audience=audience, iam=iam),
        mode=mode,
        key=key,
        headers={name.replace("_", "-"): value for name, value in headers.items()},
        url=url,
        get_verifier=get_verifier,
        shared=shared,
    )


def bearer(email: str, audience: str = URL) -> str:
    return f"Bearer {email}-for-{audience}"


@pytest.mark.parametrize("mode", ["none", "api_key", "platform"])
async def test_the_key_opens_in_every_mode(mode: Mode):
    found = await caller(mode=mode, key="the-internal-key", authorization="Bearer the-internal-key")
    assert found == KEY_HOLDER
    found = await caller(TASKS, mode=mode, key="the-internal-key", authorization="bearer  the-internal-key ")
    assert found == KEY_HOLDER


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Basic the-internal-key"},
        {"authorization": "the-internal-key"},
        {"authorization": "Bearer the-internal-ke"},
        {"authorization": "Bearer the-internal-key2"},
        {"authorization": "Bearer THE-INTERNAL-KEY"},
        {"authorization": "Bearer \udcff"},
        {"authorization": "Bearer " + "x" * 100_000},
        {"x_serverless_authorization": "Bearer the-internal-key"},
        {"x_internal_key": "the-internal-key"},
    ],
)
@pytest.mark.parametrize("mode", ["none", "api_key"])
async def test_anything_but_the_key_is_refused_and_not_repeated(mode: Mode, headers: dict[str, str]):
    with pytest.raises(Unauthenticated) as raised:
        await caller(mode=mode, key="the-internal-key", **headers)
    assert "the-internal" not in str(raised.value)


@pytest.mark.parametrize("mode", ["none", "api_key"])
@pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer "}, {"authorization": bearer(TASKS)}])
async def test_where_nothing_is_configured_all_are_refused_and_told_what_to_configure(
    mode: Mode, headers: dict[str, str]
):
    with pytest.raises(PermissionDenied, match="GOAGENTS_INTERNAL_KEY") as raised:
        await caller(mode=mode, **headers)
    assert "internal.service_accounts" in raised.value.detail


class TestTokens:
    async def test_a_named_account_is_let_in(self):
        verifier = Verifier()
        for mode in ("none", "api_key"):
            found = await caller(OTHER, TASKS, mode=mode, verifier=verifier, authorization=bearer(TASKS))
            assert found == Principal(TASKS)

    async def test_it_may_stand_beside_a_key(self):
        found = await caller(TASKS, key="k", verifier=Verifier(), authorization=bearer(TASKS))
        assert found == Principal(TASKS)

    async def test_another_account_is_not(self):
        with pytest.raises(PermissionDenied, match="does not name 'other@") as raised:
            await caller(TASKS, verifier=Verifier(), authorization=bearer(OTHER))
        assert TASKS not in raised.value.detail

    @pytest.mark.parametrize("headers", [{}, {"authorization": "Basic x"}])
    async def test_no_token(self, headers: dict[str, str]):
        with pytest.raises(Unauthenticated):
            await caller(TASKS, **headers)

    async def test_a_wrong_token(self):
        with pytest.raises(Unauthenticated):
            await caller(TASKS, verifier=Verifier(), authorization="Bearer x")

    async def test_what_cannot_be_verified_is_not_called_wrong(self):
        with pytest.raises(IdentityUnavailable):
            await caller(TASKS, verifier=Verifier(IdentityUnavailable()), authorization=bearer(TASKS))

    async def test_the_audience_is_the_configured_one(self):
        verifier = Verifier()
        await caller(TASKS, audience="ours", verifier=verifier, authorization=bearer(TASKS, "ours"))
        with pytest.raises(Unauthenticated):
            await caller(TASKS, audience="ours", verifier=verifier, authorization=bearer(TASKS, URL))
        assert verifier.asked == [["ours"], ["ours"]]

    @pytest.mark.parametrize(
        ("headers", "audience"),
        [
            ({}, "http://worker.internal:8080/worker"),
            ({"x_forwarded_proto": "https"}, "https://worker.internal:8080/worker"),
            ({"x_forwarded_proto": "HTTPS "}, "https://worker.internal:8080/worker"),
            ({"x_forwarded_proto": "http"}, "http://worker.internal:8080/worker"),
            ({"x_forwarded_proto": "gopher"}, "http://worker.internal:8080/worker"),
        ],
    )
    async def test_or_the_address_that_was_called(self, headers: dict[str, str], audience: str):
        verifier = Verifier()
        await caller(TASKS, verifier=verifier, authorization=bearer(TASKS, audience), **headers)
        assert verifier.asked == [[audience]]


class TestPlatform:
    """Cloud Run's IAM has verified the token, and taken its signature away."""

    async def test_whom_iam_let_through(self):
        header = f"Bearer {token({'email': TASKS, 'email_verified': True})}"
        assert await caller(mode="platform", shared=False, authorization=header) == Principal(TASKS)
        assert await caller(TASKS, mode="platform", authorization=header) == Principal(TASKS)
        assert await caller(TASKS, mode="platform", key="k", authorization=header) == Principal(TASKS)

    @pytest.mark.parametrize("key", [None, "k"])
    async def test_but_nobody_where_users_call_the_function_and_no_account_is_named(self, key: str | None):
        header = f"Bearer {token({'email': TASKS, 'email_verified': True})}"
        with pytest.raises(
            PermissionDenied, match=r"Name the caller's service account in `internal\.service_accounts`"
        ):
            await caller(mode="platform", key=key, authorization=header)

    async def test_only_those_who_are_named_where_somebody_is(self):
        header = f"Bearer {token({'email': OTHER, 'email_verified': True})}"
        with pytest.raises(PermissionDenied, match="does not name"):
            await caller(TASKS, mode="platform", authorization=header)

    async def test_the_verified_header_counts(self):
        verified, passed_on = (f"Bearer {token({'email': email})}" for email in (OTHER, TASKS))
        with pytest.raises(PermissionDenied):
            await caller(TASKS, mode="platform", x_serverless_authorization=verified, authorization=passed_on)

    @pytest.mark.parametrize(
        "claims",
        [
            {},
            {"sub": "1"},
            {"email": ""},
            {"email": [TASKS]},
            {"email": "x" * 300},
            {"email": TASKS, "email_verified": False},
            {"email": TASKS, "email_verified": "true"},
            [],
        ],
    )
    async def test_nobody_is_not_let_in(self, claims: Any):
        with pytest.raises(Unauthenticated):
            await caller(mode="platform", shared=False, authorization=f"Bearer {token(claims)}")

    @pytest.mark.parametrize("headers", [{}, {"authorization": "Bearer no-token"}, {"authorization": "Bearer k2"}])
    async def test_neither_token_nor_key(self, headers: dict[str, str]):
        with pytest.raises(Unauthenticated):
            await caller(mode="platform", key="k", shared=False, **headers)


class TestIam:
    """Where callers show API keys, and IAM guards worker and sweeper all the same: Cloud Run removes the signature."""

    @pytest.mark.parametrize("mode", ["none", "api_key", "platform"])
    async def test_whom_it_let_through_is_let_in_where_users_do_not_call(self, mode: Mode):
        header = f"Bearer {token({'email': TASKS})}"
        assert await caller(mode=mode, iam=True, shared=False, authorization=header) == Principal(TASKS)
        assert await caller(TASKS, mode=mode, iam=True, shared=False, authorization=header) == Principal(TASKS)
        with pytest.raises(PermissionDenied, match="does not name"):
            await caller(OTHER, mode=mode, iam=True, shared=False, authorization=header)
        with pytest.raises(Unauthenticated):
            await caller(mode=mode, iam=True, shared=False)

    @pytest.mark.parametrize(("iam", "shared"), [(True, True), (False, False)])
    async def test_anybody_could_write_such_a_token_elsewhere(self, iam: bool, shared: bool):
        header = f"Bearer {token({'email': TASKS})}"
        with pytest.raises(Unauthenticated, match="The token is wrong"):
            await caller(TASKS, mode="api_key", iam=iam, shared=shared, verifier=Verifier(), authorization=header)
        with pytest.raises(PermissionDenied, match="Nobody may call this yet"):
            await caller(mode="api_key", iam=iam, shared=shared, authorization=header)
