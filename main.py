"""What `gcloud functions deploy --source .` insists on; GOOGLE_FUNCTION_SOURCE names the function's own file.

Where it is not set, this is the function `gateway`, which serves everything.
"""

from functions.gateway.main import gateway

__all__ = ["gateway"]
