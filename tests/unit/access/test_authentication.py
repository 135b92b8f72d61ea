import base64
import hashlib
import json

import pytest

from goagents.access.authentication import authenticate, mode_of
from goagents.access.principal import Principal
from goagents.errors import ConfigurationError, GoAgentsError, PermissionDenied, Unauthenticated
from goagents.spec.config import ApiKey, AuthConfig

KEYS = AuthConfig(
    mode="api_key",
    api_keys=tuple(
        ApiKey(name=name, hash=hashlib.sha256(key.encode()).hexdigest(), tenant=tenant)
        for name, key, tenant in (("ci", "key-of-ci", "default"), ("ops", "key-of-ops", "acme"))
    ),
)
LOCALHOST = {"host": "127.0.0.1:8080"}


def token(claims: object, signature: str = "SIGNATURE_REMOVED_BY_GOOGLE") -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"eyJhbGciOiJSUzI1NiJ9.{payload}.{signature}"


def test_without_auth_the_mode_follows_the_place():
    assert mode_of(None, on_cloud_run=True) == "platform"
    assert mode_of(None, on_cloud_run=False) == "none"


@pytest.mark.parametrize(("mode", "on_cloud_run"), [("platform", False), ("none", True)])
def test_a_mode_that_cannot_hold_is_refused(mode: str, on_cloud_run: bool):
    auth = AuthConfig.model_validate({"mode": mode})
    with pytest.raises(ConfigurationError, match=r"auth\.mode") as raised:
        mode_of(auth, on_cloud_run=on_cloud_run)
    assert "write `mode:" in str(raised.value)


@pytest.mark.parametrize("client", ["127.0.0.1", "127.3.2.1", "::1", "::ffff:127.0.0.1"])
@pytest.mark.parametrize("host", ["127.0.0.1:8080", "localhost", "LOCALHOST:80", "[::1]:8080", "api.localhost:1"])
def test_none_serves_this_machine(client: str, host: str):
    assert authenticate(None, mode="none", headers={"host": host}, client_host=client) == Principal("local")


@pytest.mark.parametrize("client", ["10.0.0.7", "203.0.113.9", "::ffff:10.0.0.7", "fe80::1", "", None, "testclient"])
def test_none_serves_nobody_else(client: str | None):
    with pytest.raises(PermissionDenied, match="mode: api_key"):
        authenticate(None, mode="none", headers=LOCALHOST, client_host=client)


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "evil.example"},
        {"host": "localhost.evil.example:8080"},
        {"host": "127.0.0.1.evil.example"},
        LOCALHOST | {"origin": "https://evil.example"},
        LOCALHOST | {"origin": "null"},
        LOCALHOST | {"origin": "http://[bad"},
    ],
)
def test_none_serves_no_page_of_somebody_else_in_a_browser_of_this_machine(headers: dict[str, str]):
    with pytest.raises(PermissionDenied, match="another host"):
        authenticate(None, mode="none", headers=headers, client_host="127.0.0.1")


def test_none_serves_pages_of_this_machine():
    headers = LOCALHOST | {"origin": "http://localhost:3000"}
    assert authenticate(None, mode="none", headers=headers, client_host="127.0.0.1").id == "local"


@pytest.mark.parametrize("header", ["Bearer key-of-ops", "bearer key-of-ops", "Bearer   key-of-ops "])
def test_a_key_names_its_principal_and_tenant(header: str):
    found = authenticate(KEYS, mode="api_key", headers={"authorization": header}, client_host="203.0.113.9")
    assert found == Principal("ops", "acme")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": ""},
        {"authorization": "Bearer"},
        {"authorization": "Bearer "},
        {"authorization": "Basic key-of-ci"},
        {"authorization": "Bearer key-of-c"},
        {"authorization": "Bearer key-of-ci2"},
        {"authorization": f"Bearer {KEYS.api_keys[0].hash}"},
        {"authorization": "Bearer \udcff"},
        {"authorization": "Bearer " + "x" * 100_000},
        {"x-api-key": "key-of-ci"},
    ],
)
def test_anything_but_a_key_is_refused_and_not_repeated(headers: dict[str, str]):
    with pytest.raises(Unauthenticated) as raised:
        authenticate(KEYS, mode="api_key", headers=headers, client_host="127.0.0.1")
    assert "key-of" not in str(raised.value)


def test_the_platforms_token_names_the_principal():
    headers = {"authorization": f"Bearer {token({'email': 'a@example.com', 'sub': '1'})}"}
    assert authenticate(None, mode="platform", headers=headers, client_host=None) == Principal("a@example.com")
    headers = {"authorization": f"Bearer {token({'sub': '1'})}"}
    assert authenticate(None, mode="platform", headers=headers, client_host=None) == Principal("1")


def test_the_header_that_cloud_run_verified_goes_before_the_one_it_only_passed_on():
    headers = {
        "x-serverless-authorization": f"Bearer {token({'email': 'a@example.com'})}",
        "authorization": f"Bearer {token({'email': 'admin@example.com'})}",
    }
    assert authenticate(None, mode="platform", headers=headers, client_host=None).id == "a@example.com"


@pytest.mark.parametrize(
    "credential",
    [
        "no-token", "a.b", "a.!!!.c", "a.AAAA.c", token([]), token({}), token({"email": ""}),
        token({"email": ["a"]}), token({"sub": "x" * 300}), token("[" * 50_000)[:8000],
    ],
)  # fmt: skip
def test_a_malformed_token_is_refused(credential: str):
    with pytest.raises(GoAgentsError) as raised:
        authenticate(None, mode="platform", headers={"authorization": f"Bearer {credential}"}, client_host=None)
    assert raised.value.status == 401
