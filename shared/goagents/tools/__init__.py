"""Tools: what agents can do in the world. One adapter a kind, loaded on first use."""
