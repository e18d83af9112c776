"""The page and its assets, the reference of the API, and the one-time link that opens the page.

Comes in: GET / and below. Goes out: files, or a cookie and a redirect. Does not know: what the page shows.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

from fastapi import Query
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.staticfiles import StaticFiles

from services.errors import NotFound
from services.gateway.auth import cookie_name
from services.gateway.call import TheCall
from services.gateway.edge import error_response

PAGE = Path(__file__).parent / "static"
"""As page/ builds it."""
REFERENCE = Path(__file__).parent / "reference"
_UNBUILT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Twin</title>
<p>The page is not built here (services/gateway/page: npm ci, npm run build). The API serves all the same:
see <a href="/docs">/docs</a>.</p></html>"""


class Assets(StaticFiles):
    """Files whose names carry a hash of their content: kept by browsers for ever."""

    def __init__(self) -> None:
        super().__init__(directory=PAGE / "assets", check_dir=False)

    async def get_response(self, path: str, scope) -> Response:  # type: ignore[no-untyped-def]
        response = await super().get_response(path, scope)
        if response.status_code in (200, 304):
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
        return response


async def page(call: TheCall, token: Annotated[str | None, Query(max_length=200)] = None) -> Response:
    """The page; with a one-time link's token, a cookie first."""
    if token is None:
        if not await asyncio.to_thread((PAGE / "index.html").is_file):
            return HTMLResponse(_UNBUILT)
        return FileResponse(PAGE / "index.html", headers={"Cache-Control": "no-cache"})
    # A token that opens nothing (any more) leads to the page too, whose sign-in says what to do.
    response = RedirectResponse("/", 303, {"Cache-Control": "no-store"})
    if call.parts.links.redeem(token):
        secret, seconds = await call.parts.auth.open_session()
        response.set_cookie(
            cookie_name(call.request),
            secret,
            max_age=seconds,
            httponly=True,
            samesite="strict",
            secure=call.request.url.scheme == "https",
        )
    return response


async def reference() -> Response:
    """The reference of the API, for people."""
    return FileResponse(REFERENCE / "index.html", headers={"Cache-Control": "no-cache"})


async def reference_file(name: str) -> Response:
    """The reference's script and style."""
    if name not in ("reference.js", "reference.css"):
        return error_response(NotFound("There is no such file."))
    return FileResponse(REFERENCE / name, headers={"Cache-Control": "no-cache"})
