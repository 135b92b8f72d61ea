"""Telling others of the end of a run: the port and its adapter."""
