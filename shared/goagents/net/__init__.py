"""Outbound HTTP to addresses that others name: what the adapters that send it share."""
