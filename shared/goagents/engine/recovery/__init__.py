"""What a process left behind: found, taken over, gone on with."""
