"""Secrets named in configuration (`${secret:NAME}`), behind one port."""
