"""A tool function: what `tests.benchmarks.tools` calls through the toolkit."""

from goagents.toolkit import Toolkit

kit = Toolkit("adder")


@kit.tool(effect="read")
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


adder = kit.function
