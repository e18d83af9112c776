"""What `helm test` runs: bring in a text, ask about it, want the answer to cite it, take the text away again.

Comes in: TWIN_URL and an admin's TWIN_API_KEY. Goes out: the exit code, and on stdout the answer. Does not know: what
the gateway runs on. Needs Python's standard library alone.
"""

import json
import os
import secrets
import sys
import time
import urllib.request

URL = os.environ["TWIN_URL"].rstrip("/")
AUTHOR = f"helm-test-{secrets.token_hex(4)}"
TEXT = """# The lighthouse

The lighthouse of Karlovo was painted blue in the spring of 1987, because blue paint was all that the harbour had left.
It has one keeper, who lives beside it.
"""
QUESTION = "What colour was the lighthouse of Karlovo painted in the spring of 1987?"
BOUNDARY = "twin-helm-test"


def call(method: str, path: str, body: bytes | None = None, kind: str = "application/json") -> dict:
    headers = {"Authorization": f"Bearer {os.environ['TWIN_API_KEY']}", "Content-Type": kind}
    request = urllib.request.Request(URL + path, data=body, method=method, headers=headers)
    with urllib.request.urlopen(request, timeout=60) as response:
        return json.load(response)


def upload() -> str:
    parts = (
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="author"\r\n\r\n{AUTHOR}\r\n'
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="lighthouse.md"\r\n'
        f"Content-Type: text/markdown\r\n\r\n{TEXT}\r\n--{BOUNDARY}--\r\n"
    )
    return call("POST", "/v1/documents", parts.encode(), f"multipart/form-data; boundary={BOUNDARY}")["id"]


def main() -> None:
    id = upload()
    try:
        job = call("GET", f"/v1/ingest-jobs/{id}")
        while job["state"] in ("queued", "running"):
            time.sleep(1)
            job = call("GET", f"/v1/ingest-jobs/{job['id']}")
        if job["state"] != "done":
            sys.exit(f"The text was not brought in: {json.dumps(job)}")
        # What is asked is whether all parts work: a small model's choice of words is left nothing to chance.
        body = {"model": AUTHOR, "temperature": 0, "messages": [{"role": "user", "content": QUESTION}]}
        message = call("POST", "/v1/chat/completions", json.dumps(body).encode())["choices"][0]["message"]
        print(message["content"])
        cited = [each["url_citation"]["title"] for each in message.get("annotations", [])]
        if "blue" not in message["content"] or not cited:
            sys.exit(f"Neither the answer nor a citation: {json.dumps(message)}")
        print("cites", cited)
    finally:
        call("DELETE", f"/v1/authors/{AUTHOR}")


main()
