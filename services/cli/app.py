"""The command's root: its options, its verbs, and the one place where an error becomes a line and an exit code."""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from services import telemetry
from services.cli import administration, answers, backup, doctor, documents, ingest, models, sources, trace, up
from services.cli.options import VERSION
from services.errors import Cancelled, Forbidden, InvalidInput, NotFound, TwinError, Unauthenticated, Unavailable

app = typer.Typer(
    name="twin",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ask what someone has written, and get answers with their sources.",
    epilog="With --url or TWIN_URL it talks to a running gateway; without, it works in its own process on "
    "TWIN_DATA_DIR. Exit codes: 0 done, 1 fault, 2 usage, 3 some sources failed, 4 not allowed, 5 cannot be reached, "
    "6 not found, 7 the corpus does not answer.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"twin {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Print the version and stop.", is_eager=True, callback=_version
    ),
) -> None:
    pass


for each in (up, ingest, sources, documents, answers, trace, administration, models, backup, doctor):
    each.register(app)


def exit_code(error: TwinError) -> int:
    """What a script learns of an error."""
    match error:
        case Unauthenticated() | Forbidden():
            return 4
        case Unavailable():
            return 5
        case NotFound():
            return 6
        case InvalidInput():
            return 2
        case Cancelled():
            return 130
        case _:
            return 1


def main() -> None:
    """Run the command line; errors are one line on stderr that says what to do."""
    # On stderr, so that stdout holds the command's answer alone.
    telemetry.configure_logs("warning", human=True)
    try:
        code = app(standalone_mode=False)
    except TwinError as error:
        print(f"twin: {error.message}", file=sys.stderr)
        sys.exit(exit_code(error))
    except TyperException as error:
        # Without a command the help has been printed, and there is no message.
        if message := error.format_message():
            print(f"twin: {message.rstrip('.')}. --help says how it is used.", file=sys.stderr)
        sys.exit(error.exit_code)
    except (typer.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()  # the reader of our output has gone: `twin … | head`
        sys.exit(0)
    sys.exit(code if isinstance(code, int) else 0)
