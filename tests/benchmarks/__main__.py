"""All benchmarks, one after another: `make bench`."""

from tests.benchmarks import cold_start, local_operations, recovery, resting_memory, streams
from tests.benchmarks.report import main

main(
    {
        "Cold start (until the first answer)": cold_start.measure,
        "Memory at rest (serving process)": resting_memory.measure,
        "Local operations": local_operations.measure,
        "Streams and chat turns": streams.measure,
        "Recovery from a killed process": recovery.measure,
    }
)
