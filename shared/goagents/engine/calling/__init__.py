"""What is around every call of a tool, whatever its kind: hosts, cache, rate, circuit breaker, retries, bounds."""
