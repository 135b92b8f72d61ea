"""The logins of a tenant, as the store has them: what `tools/base.py` calls Logins."""

from collections.abc import Sequence

from goagents.logins import LoginRecord, login_path
from goagents.records import Paths
from goagents.store.base import ABSENT, AtVersion, Delete, Put, Store
from goagents.tools.base import KeptLogin


class StoredLogins:
    def __init__(self, store: Store, tenant: str) -> None:
        self._store = store
        self._paths = Paths(tenant)

    async def read(self, server: str) -> KeptLogin | None:
        path = login_path(self._paths, server)
        snapshot = await self._store.get_many([path])
        document = snapshot.get(path)
        if document is None:
            return None
        return KeptLogin(LoginRecord.of(document.data), document.version, snapshot.read_at)

    async def read_many(self, servers: Sequence[str]) -> dict[str, LoginRecord]:
        """Return the logins there are, by the server's name."""
        paths = {login_path(self._paths, server): server for server in servers}
        snapshot = await self._store.get_many(list(paths))
        return {paths[path]: LoginRecord.of(document.data) for path, document in snapshot.documents.items()}

    async def write(self, record: LoginRecord, version: str | None) -> str:
        path = login_path(self._paths, record.server)
        precondition = ABSENT if version is None else AtVersion(version)
        commit = await self._store.commit([Put(path, record.data(), precondition)])
        return commit.versions[path]

    async def replace(self, record: LoginRecord) -> None:
        """Put the record in the place of whatever is there: a person has just signed in."""
        await self._store.commit([Put(login_path(self._paths, record.server), record.data())])

    async def delete(self, server: str) -> None:
        await self._store.commit([Delete(login_path(self._paths, server))])
