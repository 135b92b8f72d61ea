"""A call on its way to a tool, for the tests of what is around it."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.calling import Desk, desk


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Any]:
    made: list[Desk] = []

    def one(**fields: Any) -> Desk:
        made.append(desk(tmp_path, **fields))
        return made[-1]

    yield one
    for each in made:
        await each.around.store.aclose()
