"""Docker's health check: 0 where the function answers.

Only `gateway` and `health` have the path `/health`. The 404 of another function is an answer, too.
"""

import http.client
import os
import sys

TIMEOUT = 3.0  # seconds


def main() -> int:
    connection = http.client.HTTPConnection("127.0.0.1", int(os.environ.get("PORT", "8080")), timeout=TIMEOUT)
    try:
        connection.request("GET", "/health")
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        sys.stderr.write(f"no answer: {error!r}\n")
        return 1
    finally:
        connection.close()
    if status >= 500:
        sys.stderr.write(f"it answers {status}\n")
    return 1 if status >= 500 else 0


if __name__ == "__main__":
    sys.exit(main())
