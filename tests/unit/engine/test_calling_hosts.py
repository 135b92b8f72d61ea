"""Where a call may go, and what must not come back: hosts and secrets, as the pipeline holds them."""

from typing import Any

import pytest
from tests.support.calling import text_of

from goagents.errors import ToolFailed
from goagents.telemetry.base import Unexpected


def down(text: str = "no answer", **more: Any) -> ToolFailed:
    return ToolFailed(text).because("server", **more)


class TestHosts:
    @pytest.mark.parametrize(
        ("place", "outcome"),
        [
            ("api.example.com:443", "ok"),
            ("API.example.com:443", "ok"),
            ("x.example.org:443", "ok"),
            ("example.org:443", "refused"),
            ("evil-example.org:443", "refused"),
            ("api.example.com.evil.net:443", "refused"),
            ("db.internal:8443", "ok"),
            ("db.internal:443", "refused"),
            ("[2001:db8::1]:443", "ok"),
            ("[2001:db8::2]:443", "refused"),
            (None, "ok"),
        ],
    )
    async def test_other_hosts_are_not_called(self, make: Any, place: str | None, outcome: str):
        hosts = ["api.example.com", "*.example.org", "db.internal:8443", "[2001:DB8:0::1]"]
        at = make(agent={"allowed_hosts": hosts})
        tool = at.tool("ok")
        tool.place = place
        done = await at.call(tool)
        assert (done.outcome, len(tool.keys)) == (outcome, int(outcome == "ok"))
        if outcome == "refused":
            assert "is not among the agent's `allowed_hosts` (api.example.com, *.example.org," in text_of(done)


class TestSecrets:
    async def test_no_result_error_or_log_holds_one(self, make: Any):
        headers = {"Authorization": "Bearer ${TOKEN}"}
        at = make(
            headers=headers, url="https://api.example.com/${KEY}", environ={"TOKEN": "t0p-s3cret", "KEY": "k3y99"}
        )
        tool = at.tool("it is t0p-s3cret and k3y99", ToolFailed("with k3y99"), RuntimeError("t0p-s3cret"))
        assert text_of(await at.call(tool)) == "it is [redacted] and [redacted]"
        assert text_of(await at.call(tool)) == "with [redacted]"
        assert text_of(await at.call(tool)) == "The tool failed unexpectedly."
        (defect,) = [event for event in at.seen if isinstance(event, Unexpected)]
        assert "t0p-s3cret" not in defect.error + defect.traceback
        assert "[redacted]" in defect.error

    async def test_the_headers_of_other_tools_are_secret_and_what_else_they_refer_to_is_theirs(self, make: Any):
        common = {"type": "http", "url": "https://api.example.com/v1"}
        other = {"name": "other", "headers": {"X-Key": "Key ${KEY}"}, "url": "https://api.example.com/${REGION}"}
        environ = {"KEY": "k3y99", "REGION": "west"}
        at = make(agent={"tools": [{**common, "name": "find"}, {**common, **other}]}, environ=environ)
        assert text_of(await at.call(at.tool("k3y99 of the west"))) == "[redacted] of the west"
        assert text_of(await at.call(at.tool("k3y99 of the west", entry=1), entry=1)) == "[redacted] of the [redacted]"

    async def test_a_reference_that_cannot_be_read_is_for_whoever_opens_the_tool(self, make: Any):
        at = make(url="https://api.example.com/${", headers={"X-Key": "${not closed"})
        assert text_of(await at.call(at.tool("found"))) == "found"

    async def test_what_is_no_secret_is_shown(self, make: Any):
        at = make(
            url="https://${HOST}/v1", description="of ${SHOP}", environ={"HOST": "api.example.com", "SHOP": "Acme Ltd"}
        )
        assert text_of(await at.call(at.tool("api.example.com of Acme Ltd"))) == "api.example.com of Acme Ltd"
