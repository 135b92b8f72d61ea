"""The command line: `goagents --help`. One file for each group of commands, imported when it is called."""
