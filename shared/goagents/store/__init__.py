"""Documents at paths, each with a version: the one place where GoAgents keeps anything."""
