"""Handing work to a fresh invocation: the port and its adapters."""
