"""What `status` says of a tool."""

from datetime import UTC, datetime, timedelta

import pytest

from goagents.cli.status import detail_of
from goagents.resources import CircuitStatus, ToolStatus

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def tool(detail: str | None = None, *circuits: CircuitStatus) -> ToolStatus:
    return ToolStatus(name="t", type="http", status="available", detail=detail, circuits=list(circuits))


def circuit(state: str, host: str = "api.example.com:443", seconds: float = 20.0) -> CircuitStatus:
    until = NOW + timedelta(seconds=seconds)
    return CircuitStatus.model_validate({"host": host, "state": state, "failures": 5, "until": until})


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (tool(), None),
        (tool("no answer"), "no answer"),
        (tool(None, circuit("open")), "api.example.com:443 is not called for 20s"),
        (tool(None, circuit("open", "")), "it is not called for 20s"),
        (tool(None, circuit("open", seconds=-5.0)), "api.example.com:443 is not called for 0s"),
        (tool("no answer", circuit("half_open")), "no answer; api.example.com:443 is tried again"),
    ],
)
def test_the_detail_of_a_tool(shown: ToolStatus, expected: str | None):
    assert detail_of(shown, NOW) == expected
