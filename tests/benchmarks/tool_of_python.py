"""A Python function as a tool, for `tests.benchmarks.tools`."""


async def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b
