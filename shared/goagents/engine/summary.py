"""The whole deployment in numbers, from the store's counters."""

import asyncio
from collections import defaultdict
from datetime import timedelta

from goagents.access.principal import Principal
from goagents.records import ClusterRecord, Paths, UsageRecord
from goagents.resources import DayTotals, MetricsSummary, Totals
from goagents.store.base import MAX_PAGE, Filter, Page, Query

from .recovery.pointers import alive
from .services import Services
from .specs import load_generation

DAYS = 30
MAX_PAGES = 10
SUMMED = tuple(name for name in Totals.model_fields if name != "mean_run_seconds")


async def metrics_summary(services: Services, principal: Principal) -> MetricsSummary:
    """Return runs in progress, clusters and agents, and the totals of the last 30 days."""
    paths = Paths(principal.tenant)
    first = (services.clock.now() - timedelta(days=DAYS - 1)).strftime("%Y%m%d")
    running, usage, clusters = await asyncio.gather(
        _all(services, Query(paths.runs(), (Filter("status", "==", "running"),), "created_at", limit=MAX_PAGE)),
        _all(services, Query(paths.usage(), (Filter("day", ">=", first),), "day", limit=MAX_PAGE)),
        _all(services, Query(paths.clusters(), limit=MAX_PAGE)),
    )
    living = await alive(services, paths, [d.id for page in running for d in page.documents])
    records = [ClusterRecord.of(d.data) for page in clusters for d in page.documents]
    loaded = [await load_generation(services, paths, record) for record in records if record.status == "active"]
    days = _days([UsageRecord.of(d.data) for page in usage for d in page.documents])
    return MetricsSummary(
        active_runs=len(living),
        clusters=len(loaded),
        agents=sum(len(cluster.manifest.spec.agents) for cluster in loaded),
        total=Totals(**_sum([shard for shards in days.values() for shard in shards])),
        days=[DayTotals(day=day, **_sum(days[day])) for day in sorted(days, reverse=True)],
    )


async def _all(services: Services, query: Query) -> list[Page]:
    pages = [await services.store.query(query)]
    while pages[-1].next_cursor and len(pages) < MAX_PAGES:
        following = Query(
            query.collection,
            query.where,
            query.order_by,
            descending=query.descending,
            limit=query.limit,
            after=pages[-1].next_cursor,
        )
        pages.append(await services.store.query(following))
    return pages


def _days(shards: list[UsageRecord]) -> dict[str, list[UsageRecord]]:
    days: dict[str, list[UsageRecord]] = defaultdict(list)
    for shard in shards:
        days[shard.day].append(shard)
    return days


def _sum(shards: list[UsageRecord]) -> dict[str, int | float]:
    totals: dict[str, int | float] = {name: sum(getattr(shard, name) for shard in shards) for name in SUMMED}
    duration = sum(shard.duration for shard in shards)
    totals["mean_run_seconds"] = round(duration / totals["runs"], 4) if totals["runs"] else 0.0
    return totals
