"""The `twin` command.

Comes in: a command line. Goes out: what it asked for on stdout (people's form, or JSON with --json), progress and
errors on stderr, and an exit code. Does not know: how the work is done. Every command speaks Twin's own HTTP API: of
the gateway that --url or TWIN_URL names, or else of one in its own process on the data directory (local.py).

Exit codes: 0 done · 1 a fault · 2 a wrong command line · 3 done in part: some sources failed · 4 the key does not
allow it · 5 cannot be reached · 6 not found · 7 the corpus does not answer · 130 interrupted.
"""

from services.cli.app import main

__all__ = ["main"]
