"""What `goagents mcp` shows of a login, and what it loads to do so."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from goagents.cli.mcp import row_of
from goagents.logins import LoginContent, LoginRecord
from goagents.spec.config import McpServerConfig

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SERVER = McpServerConfig.model_validate({"url": "https://x.example/mcp", "oauth": {}})


def record(refresh: str | None = None, hours: float | None = 1, **fields: Any) -> LoginRecord:
    content = LoginContent(access_token="the-access", refresh_token=refresh, scope="read", client={"client_id": "me"})
    expires_at = None if hours is None else NOW + timedelta(hours=hours)
    given = {"url": "https://x.example/mcp", **fields}
    return LoginRecord(server="x", content=content, signed_in_at=NOW, expires_at=expires_at, **given)


@pytest.mark.parametrize(
    ("kept", "login", "until"),
    [
        (None, "nobody; run goagents mcp login x", None),
        (record("the-refresh"), "signed in", "renewed"),
        (record(), "signed in", "2026-01-02T04:04:05+00:00"),
        (record(hours=-1), "signed in", "over since 2026-01-02T02:04:05+00:00"),
        (record(hours=None), "signed in", "revoked"),
        (record("the-refresh", wanting="write"), "signed in, lacks write; run goagents mcp login x", "renewed"),
        (record(ended="it was refused"), "over, it was refused; run goagents mcp login x", None),
        (record(url="https://y.example"), "for another address, https://y.example; run goagents mcp login x", None),
    ],
)
def test_a_row_says_whether_somebody_is_signed_in_until_when(kept: LoginRecord | None, login: str, until: str | None):
    row = row_of("x", SERVER, kept, NOW)
    assert (row["login"], row["until"]) == (login, until)
    assert "the-access" not in str(row)
    assert "the-refresh" not in str(row)


@pytest.mark.parametrize(
    ("code", "unwanted"),
    [
        ("import goagents.cli.mcp", {"mcp", "mcp_types", "aiohttp", "grpc"}),
        ("import goagents.app as app; app.application('chat')", {"mcp", "mcp_types", "goagents.tools.mcp"}),
    ],
)
def test_the_sdk_is_loaded_by_whom_it_serves(code: str, unwanted: set[str]):
    shown = subprocess.run(
        [sys.executable, "-c", f"{code}; import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert unwanted & set(shown.stdout.split()) == set()
