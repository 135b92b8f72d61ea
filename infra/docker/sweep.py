"""Calls the sweeper, as Cloud Scheduler does on Google Cloud: once, or for ever.

    python sweep.py                  once: a CronJob of Kubernetes
    python sweep.py --every 15       for ever, with 15 seconds between two calls: Compose

GOAGENTS_SWEEP_URL is its address (`http://goagents/sweep`), GOAGENTS_INTERNAL_KEY the key it takes.
"""

import argparse
import http.client
import os
import signal
import sys
import time
from urllib.parse import urlsplit

TIMEOUT = 45.0  # seconds of one call
MOST = 2000  # bytes of an answer that are read


class NotConfigured(Exception):
    """A variable is missing or wrong; the message names it."""


def settings() -> tuple[str, str]:
    """Return the address and the key. Raises NotConfigured."""
    url, key = (os.environ.get(name, "").strip() for name in ("GOAGENTS_SWEEP_URL", "GOAGENTS_INTERNAL_KEY"))
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NotConfigured("GOAGENTS_SWEEP_URL: must be the sweeper's address, such as http://goagents/sweep")
    if not key:
        raise NotConfigured("GOAGENTS_INTERNAL_KEY: is not set; it is the key that the gateway was given, too")
    return url, key


def sweep(url: str, key: str) -> str | None:
    """Return what went wrong, if anything did. A redirection is not followed: the key is for `url` alone."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(parts.netloc, timeout=TIMEOUT)
    try:
        connection.request("POST", parts.path or "/sweep", headers={"authorization": f"Bearer {key}"})
        response = connection.getresponse()
        text = response.read(MOST).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{url} cannot be reached: {error!r}"
    finally:
        connection.close()
    return None if response.status == 200 else f"{url} answers {response.status}: {text}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Call the sweeper.")
    parser.add_argument("--every", type=float, metavar="SECONDS", help="go on for ever, with this time between calls")
    every = parser.parse_args().every
    if every is not None and not every > 0:
        parser.error("--every: must be more than 0")
    # The first process of a container ignores a signal that it has no handler for.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        url, key = settings()
    except NotConfigured as error:
        sys.stderr.write(f"{error}\n")
        return 2
    while True:
        failure = sweep(url, key)
        if failure is not None:
            sys.stderr.write(f"{failure}\n")
        if every is None:
            return 0 if failure is None else 1
        time.sleep(every)


if __name__ == "__main__":
    sys.exit(main())
