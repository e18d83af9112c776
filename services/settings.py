"""Settings are read once, in a service's bootstrap, from the environment or a file; a wrong one is refused at start.

Comes in: TWIN_… variables and the file that TWIN_SETTINGS names (KEY=VALUE lines; the environment wins). Goes out: a
frozen object. Does not know: which settings there are: each bootstrap subclasses `Settings` with its own typed lines.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.errors import Misconfigured

S = TypeVar("S", bound="Settings")


class Settings(BaseSettings):
    """What every service is told: where the embedded parts live."""

    model_config = SettingsConfigDict(env_prefix="TWIN_", extra="ignore", frozen=True, env_ignore_empty=True)

    data_dir: Path = Field(default=Path("~/.twin"), description="Where the embedded parts live.")

    @property
    def directory(self) -> Path:
        """`data_dir`, absolute."""
        return self.data_dir.expanduser().absolute()

    @property
    def database(self) -> str:
        """URL of the one SQLite file that the embedded stores share."""
        return f"sqlite:///{self.directory / 'twin.db'}"


def read(kind: type[S], **given: Any) -> S:
    """The settings of one service. `given` wins over the environment, the environment over the file.

    Raises Misconfigured with each wrong setting's name and what would be right; values are not repeated, for some
    are secrets.
    """
    file = os.environ.get("TWIN_SETTINGS")
    if file and not Path(file).expanduser().is_file():
        raise Misconfigured("TWIN_SETTINGS names no file. Name one of KEY=VALUE lines, or unset it.")
    try:
        return kind(_env_file=Path(file).expanduser() if file else None, **given)
    except ValidationError as error:
        details = error.errors(include_input=False)
        wrong = "; ".join(f"TWIN_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" for each in details)
        raise Misconfigured(f"Settings are wrong: {wrong}.") from None
