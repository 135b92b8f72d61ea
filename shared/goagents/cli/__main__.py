"""`python -m goagents.cli` is `goagents`."""

from goagents.cli.main import main

main()
