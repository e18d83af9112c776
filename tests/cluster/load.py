"""python load.py SECONDS RATE: requests to TWIN_URL, from a pod, while something is done to what answers.

Comes in: TWIN_URL, TWIN_API_KEY; SECONDS to go on, RATE searches a second, and beside them one stream after the other.
Goes out: one line of JSON with how many were asked and each failure. Does not know: what is done. A search that fails
is not repeated: each one counts.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time

import httpx

QUESTION = "In which colour was the ferry painted?"


async def main(seconds: float, rate: float) -> None:
    failures: list[str] = []
    count = {"searches": 0, "streams": 0}
    took: list[float] = []
    end = time.monotonic() + seconds
    headers = {"Authorization": f"Bearer {os.environ['TWIN_API_KEY']}"}
    limits = httpx.Limits(max_connections=200, max_keepalive_connections=8, keepalive_expiry=5)
    async with httpx.AsyncClient(base_url=os.environ["TWIN_URL"], headers=headers, timeout=60, limits=limits) as client:

        async def search() -> None:
            start = time.monotonic()
            try:
                answer = await client.post("/v1/search", json={"query": QUESTION, "k": 3})
                if answer.status_code != 200 or not answer.json()["passages"]:
                    failures.append(f"search {answer.status_code} {answer.text[:200]}")
            except httpx.HTTPError as error:
                failures.append(f"search {type(error).__name__} {error} after {time.monotonic() - start:.2f} s")
            took.append(time.monotonic() - start)
            count["searches"] += 1

        async def streams() -> None:
            body = {
                "model": "twin",
                "stream": True,
                "max_tokens": 24,
                "messages": [{"role": "user", "content": QUESTION}],
            }
            while time.monotonic() < end:
                try:
                    async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
                        text = "".join([part async for part in answer.aiter_text()])
                    if answer.status_code != 200 or "data: [DONE]" not in text or '"error"' in text:
                        failures.append(f"stream {answer.status_code} {text[-300:]}")
                except httpx.HTTPError as error:
                    failures.append(f"stream {type(error).__name__} {error}")
                count["streams"] += 1

        streaming = asyncio.create_task(streams())
        async with asyncio.TaskGroup() as group:
            following = time.monotonic()
            while following < end:
                group.create_task(search())
                following += 1 / rate
                await asyncio.sleep(max(0.0, following - time.monotonic()))
        await streaming
    took.sort()
    told = {**count, "seconds": seconds, "failed": len(failures), "failures": failures[:10], "p50": round(took[len(took) // 2], 3),
            "p99": round(took[len(took) * 99 // 100], 3)}  # fmt: skip
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), float(sys.argv[2])))
