"""For every test: no way to a real model, and no key that could pay for one."""

import os

import pytest

_PROVIDER_VARIABLES = ("ANTHROPIC_", "OPENAI_", "GOOGLE_API_KEY", "GOOGLE_PROJECT_ID", "GEMINI_")


@pytest.fixture(scope="session", autouse=True)
def offline_environment() -> None:
    """Set in the process itself, so that what tests start inherits it. Nothing needs it back afterwards."""
    os.environ["GOAGENTS_OFFLINE"] = "1"
    for name in list(os.environ):
        if name.startswith(_PROVIDER_VARIABLES):
            del os.environ[name]
