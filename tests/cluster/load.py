"""python load.py SECONDS RATE [--patient] [--searches]: requests to TWIN_URL, from a pod, while something is done to what answers.

Comes in: TWIN_URL, TWIN_API_KEY, TWIN_PAGES; SECONDS to go on at most (until stdin ends), RATE searches a second, and
beside them one stream after the other and one ingest after the other, each of a page of its own. Goes out: `begun` once
it answers, and one line of JSON with how many were asked and each failure. Does not know: what is done. What fails is
not repeated, so each failure counts; `--patient` repeats as HTTP says where the answer was 429 or 503 or no connection
was made. `--searches`: nothing else, and each asks something else, so that no answer is
remembered.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
import time
from collections import Counter

import httpx

QUESTION = "In which colour was the ferry painted?"
AUTHOR = "alpha"
PATIENCE = 90.0
"""Seconds in which a request is repeated, and in which an ingest must end after the load has."""
INGEST_PAUSE = 2.0


class Load:
    def __init__(self, client: httpx.AsyncClient, seconds: float, patient: bool, alone: bool) -> None:
        self.client = client
        self.patient = patient
        self.alone = alone
        self.end = time.monotonic() + seconds
        self.count: Counter[str] = Counter(searches=0, streams=0, ingests=0, repeated=0)
        self.failures: list[str] = []
        self.took: list[float] = []
        self.name = time.strftime("%H%M%S")

    def ending(self) -> None:
        sys.stdin.read()
        self.end = time.monotonic()

    async def send(
        self, name: str, method: str, path: str, body: object = None, headers: dict[str, str] | None = None
    ) -> httpx.Response | None:
        """The answer; None where it failed, which is noted."""
        start = time.monotonic()
        while True:
            wait = 1.0
            try:
                answer = await self.client.request(method, path, json=body, headers=headers)
                if answer.is_success:
                    return answer
                said = f"{name} {answer.status_code} {answer.text[:200]}"
                again = answer.status_code in (429, 503)
                wait = float(answer.headers.get("retry-after", wait))
            except httpx.HTTPError as error:
                said = f"{name} {type(error).__name__} {error}"
                # Each of these may be asked twice: searches change nothing, ingests have a key.
                again = isinstance(error, httpx.TransportError)
            if not (self.patient and again and time.monotonic() - start < PATIENCE):
                self.failures.append(f"{said} after {time.monotonic() - start:.2f} s, at {time.strftime('%H:%M:%S')}")
                return None
            self.count["repeated"] += 1
            await asyncio.sleep(wait)

    async def search(self) -> None:
        start = time.monotonic()
        self.count["searches"] += 1
        query = f"{self.count['searches']}: {QUESTION}" if self.alone else QUESTION
        answer = await self.send("search", "POST", "/v1/search", {"query": query, "k": 3})
        if answer is not None and not answer.json()["passages"]:
            self.failures.append(f"search found nothing {answer.text[:200]}")
        self.took.append(time.monotonic() - start)

    async def streams(self) -> None:
        body = {"model": "twin", "stream": True, "max_tokens": 24, "messages": [{"role": "user", "content": QUESTION}]}
        while time.monotonic() < self.end:
            # A stream that broke off is asked for anew: what it has said changes nothing.
            answer = await self.send("stream", "POST", "/v1/chat/completions", body)
            if answer is not None and ("data: [DONE]" not in answer.text or '"error"' in answer.text):
                said = f"stream broke off, at {time.strftime('%H:%M:%S')}: {answer.text[-300:]}"
                if self.patient:
                    self.count["repeated"] += 1
                    await asyncio.sleep(1)
                    continue
                self.failures.append(said)
            self.count["streams"] += 1

    async def ingests(self) -> None:
        while time.monotonic() < self.end:
            number = self.count["ingests"] = self.count["ingests"] + 1
            page = f"{os.environ['TWIN_PAGES']}/{self.name}-{number}.html"
            key = {"Idempotency-Key": page}
            body = {"author": AUTHOR, "sources": [page]}
            answer = await self.send("ingest", "POST", "/v1/ingest-jobs", body, key)
            until = time.monotonic() + PATIENCE
            while answer is not None and answer.json()["state"] in ("queued", "running"):
                if time.monotonic() > until:
                    self.failures.append(f"ingest not ended: {answer.text[:400]}")
                    break
                await asyncio.sleep(0.5)
                answer = await self.send("job", "GET", f"/v1/ingest-jobs/{answer.json()['id']}")
            else:
                done = answer is not None and answer.json()
                if done and (done["state"] != "done" or done["documents"]["indexed"] != 1):
                    self.failures.append(f"ingest {json.dumps(done)[:400]}")
            await asyncio.sleep(INGEST_PAUSE)


async def main(seconds: float, rate: float, patient: bool, alone: bool) -> None:
    headers = {"Authorization": f"Bearer {os.environ['TWIN_API_KEY']}"}
    limits = httpx.Limits(max_connections=400, max_keepalive_connections=8, keepalive_expiry=5)
    # An answer may wait for its turn. Resolvers ask again after 5 s: a name may take that long on a busy machine.
    timeout = httpx.Timeout(60, connect=15)
    async with httpx.AsyncClient(
        base_url=os.environ["TWIN_URL"], headers=headers, timeout=timeout, limits=limits
    ) as client:
        load = Load(client, seconds, patient, alone)
        await load.search()
        print("begun", flush=True)
        start = time.monotonic()
        threading.Thread(target=load.ending, daemon=True).start()
        others = () if load.alone else (load.streams(), load.ingests())
        beside = [asyncio.create_task(each) for each in others]
        async with asyncio.TaskGroup() as group:
            following = time.monotonic()
            while following < load.end:
                group.create_task(load.search())
                following += 1 / rate
                await asyncio.sleep(max(0.0, following - time.monotonic()))
        for each in beside:
            await each
    took = load.end - start
    load.took.sort()
    told = {**load.count, "seconds": round(took, 1), "failed": len(load.failures), "failures": load.failures[:10], "kinds": Counter(" ".join(each.split()[:2]) for each in load.failures),
            "p50": round(load.took[len(load.took) // 2], 3), "p99": round(load.took[len(load.took) * 99 // 100], 3)}  # fmt: skip
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    asyncio.run(main(float(sys.argv[1]), float(sys.argv[2]), "--patient" in sys.argv, "--searches" in sys.argv))
