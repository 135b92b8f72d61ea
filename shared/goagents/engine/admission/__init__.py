"""Starting runs: who may, in which session, on which slot; all decided by one read and one commit."""
