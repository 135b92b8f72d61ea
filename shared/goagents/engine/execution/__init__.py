"""What happens in a run: the loop, its tools, its journal, its events, its end."""
