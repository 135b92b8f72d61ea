"""What a store holds, looked up from outside the processes that serve it."""

import asyncio

from goagents.app import open_store
from goagents.records import Paths
from goagents.store.base import Query


def held(store_url: str, cluster: str) -> list[str]:
    """Return the paths of the slots and instances of a cluster that a run holds."""
    return asyncio.run(_held(store_url, cluster))


async def _held(store_url: str, cluster: str) -> list[str]:
    paths, store = Paths("default"), open_store(store_url)
    try:
        pages = [
            await store.query(Query(collection, limit=500))
            for collection in (paths.slots("default", cluster), paths.instances("default", cluster))
        ]
    finally:
        await store.aclose()
    return [document.path for page in pages for document in page.documents if document.data.get("run") is not None]
