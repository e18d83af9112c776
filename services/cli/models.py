"""`twin models`: the small language model that runs in the process."""

from __future__ import annotations

from typing import Annotated

import typer

from services.cli.options import out, run


def register(app: typer.Typer) -> None:
    app.add_typer(commands, name="models")


commands = typer.Typer(help="Models that run in Twin's own process.", no_args_is_help=True)


@commands.command()
def fetch(name: Annotated[str, typer.Argument(help="smollm2")] = "smollm2") -> None:
    """Fetch a small model into the data directory, for TWIN_LLM_URL=llamacpp://NAME."""
    from services import embedded

    path = run(embedded.fetch_model(name))
    out.print(f"{path}\nUse it: TWIN_LLM_URL=llamacpp://{name} twin up", markup=False)
