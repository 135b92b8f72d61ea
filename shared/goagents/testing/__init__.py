"""What GoAgents lends to the tests of its users."""
