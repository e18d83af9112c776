"""python reaching.py SECONDS ADDRESS:PORT…: which of them answer, from a pod: whether with a connection or by refusing it.

Goes out: a JSON list. What a policy does not allow is dropped, and answers nothing.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import sys
import time


def reached(seconds: float, targets: list[str]) -> list[str]:
    found, waiting, poll = [], {}, select.poll()
    for each in targets:
        host, _, port = each.rpartition(":")
        tried = socket.socket()
        tried.setblocking(False)
        if tried.connect_ex((host, int(port))) in (0, errno.ECONNREFUSED):
            found.append(each)
            continue
        waiting[tried.fileno()] = tried, each
        poll.register(tried, select.POLLOUT)
    end = time.monotonic() + seconds
    while waiting and (left := end - time.monotonic()) > 0:
        for descriptor, _ in poll.poll(left * 1000):
            tried, each = waiting.pop(descriptor)
            poll.unregister(descriptor)
            if tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) in (0, errno.ECONNREFUSED):
                found.append(each)
            tried.close()
    return found


if __name__ == "__main__":
    print(json.dumps(reached(float(sys.argv[1]), sys.argv[2:])))
