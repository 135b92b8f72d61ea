"""What is around every call of a tool, whatever its kind: hosts, rate, cache, circuit breaker, retries, bounds."""
