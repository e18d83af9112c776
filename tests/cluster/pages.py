"""python pages.py: pages to be brought in, from a pod: each address a text of its own, on port 8080.

One whose name begins with `slow-` takes some seconds, and /sitemap-NAME.xml names some of those. /asked tells how often
each was asked for.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW = 4.0
OF_A_SITE = 8
asked: Counter[str] = Counter()
FERRY = (
    "<h1>The ferry</h1><p>The ferry across the lake was painted green in the summer of 1962, because green paint was all "
    "that the boatyard had left after the war. It went back and forth between the two villages every half hour, and took "
    "bicycles for nothing.</p><p>In winter it stayed in the harbour, and the children of both villages learned to skate "
    "around it.</p>"
)


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        name = self.path.strip("/").removesuffix(".html")
        if name == "robots.txt":
            self.send_error(404)
            return
        if name == "asked":
            self._answer("application/json", json.dumps(asked).encode())
            return
        asked[name] += 1
        if name.startswith("sitemap-"):
            of = name.removeprefix("sitemap-").removesuffix(".xml")
            names = [f"http://{self.headers['Host']}/slow-{of}-{number}.html" for number in range(OF_A_SITE)]
            urls = "".join(f"<url><loc>{each}</loc></url>" for each in names)
            text = f'<?xml version="1.0"?><urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">{urls}</urlset>'
            self._answer("application/xml", text.encode())
            return
        if name.startswith("slow-"):
            time.sleep(SLOW)
        text = FERRY if name == "ferry" else (
            f"<h1>Buoy {name}</h1><p>Buoy {name} was laid out in the lake for the boats that came after dark. Its lamp was "
            f"lit by the keeper of buoy {name}, who rowed there each evening with a can of oil and a dry wick.</p><p>What "
            f"it cost was written into the book of the harbour under the number {name}, and paid in the spring.</p>"
        )  # fmt: skip
        body = f"<html><head><title>{name}</title></head><body><article>{text}</article></body></html>".encode()
        self._answer("text/html; charset=utf-8", body)

    def _answer(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


if __name__ == "__main__":
    ThreadingHTTPServer(("", 8080), Pages).serve_forever()
