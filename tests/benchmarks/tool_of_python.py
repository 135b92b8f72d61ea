"""Python functions as tools, for `tests.benchmarks.tools`."""


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def add_in_thread(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
