"""Admission, the agent loop, the journal and the state of clusters: over ports only, never over an adapter."""
