"""python -m tests.up_servers: all of Twin as processes on MongoDB's protocol, Weaviate and Redis, to try (`make up-servers`).

Ctrl-C stops everything that this started and takes its data away.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from tests.processes import cluster, create_key
from tests.servers.obtain import Missing
from tests.servers.run import Servers

SERVERS = ("ferretdb", "weaviate", "redis", "jaeger")
REPLICAS = {"feature": 2, "retriever": 2, "generator": 2, "gateway": 1, "crawler": 2}


def settings_of(variables: dict[str, str], database: str = "twin") -> dict[str, str]:
    """Twin's settings for servers of tests.servers."""
    redis = variables["TWIN_TEST_REDIS_URL"].rstrip("/")
    return {
        "TWIN_DOCUMENTS_URL": f"{variables['TWIN_TEST_MONGODB_URL'].rstrip('/')}/{database}",
        "TWIN_INDEX_URL": variables["TWIN_TEST_WEAVIATE_URL"],
        "TWIN_QUEUE_URL": f"{redis}/0",
        "TWIN_LIMITS_URL": f"{redis}/1",
    }


async def main() -> None:
    with tempfile.TemporaryDirectory(prefix="twin-up-") as name:
        directory = Path(name)
        servers = Servers(directory / "servers")
        try:
            variables: dict[str, str] = {}
            for each in SERVERS:
                print(f"{each} ...", file=sys.stderr, flush=True)
                variables |= (await asyncio.to_thread(servers.start, each)).variables
            settings = {
                **settings_of(variables),
                "TWIN_CRAWLER_FOLDERS": "*",
                "OTEL_EXPORTER_OTLP_ENDPOINT": variables["TWIN_TEST_OTLP_URL"],
            }
            key = await create_key(directory, settings, "try", "admin")
            async with cluster(directory, settings, REPLICAS) as made:
                print(f"Gateway  {made.gateways[0]}")
                print(f"Key      {key}")
                print(f"Traces   {variables['TWIN_TEST_JAEGER_URL']}")
                print(f"Logs     {directory}/*.log")
                print("\nIn another terminal:\n")
                print(f"  export TWIN_URL={made.gateways[0]} TWIN_API_KEY={key}")
                print('  twin ingest docs && twin ask "How do I bring in a folder of my own notes?"\n')
                print("Stop with Ctrl-C: then nothing of this is left.", flush=True)
                await asyncio.Event().wait()
        finally:
            servers.stop()


if __name__ == "__main__":
    try:
        asyncio.run(main())
    except KeyboardInterrupt:
        pass
    except Missing as error:
        sys.exit(str(error))
