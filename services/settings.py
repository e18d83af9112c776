"""Settings are read once, in a service's bootstrap, from the environment or a file; a wrong one is refused at start.

Comes in: TWIN_… variables and the file that TWIN_SETTINGS names (KEY=VALUE lines; the environment wins). Goes out: a
frozen object. Does not know: which settings there are: each bootstrap subclasses `Settings` with its own typed lines.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Any, TypeVar

from dotenv import dotenv_values
from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.errors import Misconfigured
from services.rpc import Identity

S = TypeVar("S", bound="Settings")

_ELSEWHERE = frozenset(
    f"TWIN_{each}"
    for each in (
        "SETTINGS URL API_KEY AUTHOR LLM_API_KEY ENCODER_API_KEY RERANKER_API_KEY "
        # Of the chart, which puts them into URLs, and of tests in a cluster.
        "MONGODB_PASSWORD REDIS_PASSWORD WEAVIATE_KEY PAGES KEEP_CLUSTER WRITE_GOLDEN"
    ).split()
)
"""What is read by other than a service's settings."""
_OF_TESTS = ("TWIN_TEST_", "TWIN_REQUIRE_")


class Settings(BaseSettings):
    """What every service is told: where the embedded parts live."""

    model_config = SettingsConfigDict(env_prefix="TWIN_", extra="ignore", frozen=True, env_ignore_empty=True)

    data_dir: Path = Field(default=Path("~/.twin"), description="Where the embedded parts live.")

    tls_certificate: Path | None = Field(default=None, description="This service's certificate, in PEM.")
    tls_key: Path | None = Field(default=None, description="Its key.")
    tls_authority: Path | None = Field(
        default=None, description="The authority that all services' certificates are of."
    )
    work: bool = True
    """Whether a service that has workers works on jobs itself; without, it only answers calls and keeps schedules."""
    health_address: str = ""
    """Where a service serves gRPC's health alone, without TLS, for an orchestrator's probes; empty: only where it
    serves everything."""
    concurrent_calls: int = Field(1000, ge=1)
    """gRPC calls that a service answers at once; more are told to come again."""
    drain_seconds: float = Field(60.0, ge=0)
    """That running calls and streams have to end, once a service was told to stop."""
    drain_linger_seconds: float = Field(2.0, ge=0)
    """That a service goes on taking calls after it has said that it stops: callers learn it by then."""

    @model_validator(mode="after")
    def _whole_identity(self) -> Settings:
        files = {"TWIN_TLS_CERTIFICATE": self.tls_certificate, "TWIN_TLS_KEY": self.tls_key,
                 "TWIN_TLS_AUTHORITY": self.tls_authority}  # fmt: skip
        if any(files.values()):
            for name, file in files.items():
                if file is None or not file.is_file():
                    raise ValueError(f"{name} names no file; mutual TLS needs all of {', '.join(files)}")
        return self

    @property
    def identity(self) -> Identity | None:
        """For mutual TLS between services; None: plain."""
        if self.tls_certificate is None or self.tls_key is None or self.tls_authority is None:
            return None
        return Identity(self.tls_certificate, self.tls_key, self.tls_authority)

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
        wrong = "; ".join(
            f"TWIN_{'_'.join(map(str, each['loc'])).upper()}: {each['msg']}" if each["loc"] else each["msg"]
            for each in details
        )
        raise Misconfigured(f"Settings are wrong: {wrong}.") from None


def unknown(*kinds: type[Settings]) -> list[str]:
    """A line for each TWIN_… of the environment and the file that nothing reads: ignored, as other programs may have
    some of their own, and more often mistyped. `kinds`: of all services. Values are not repeated."""
    known = {f"TWIN_{name.upper()}" for kind in kinds for name in kind.model_fields} | _ELSEWHERE
    given = {name.upper() for name in os.environ}
    file = os.environ.get("TWIN_SETTINGS")
    if file and Path(file).expanduser().is_file():
        given |= {name.upper() for name in dotenv_values(Path(file).expanduser(), interpolate=False)}
    said = []
    for name in sorted(given - known):
        if name.startswith("TWIN_") and not name.startswith(_OF_TESTS):
            meant = _meant(name.removeprefix("TWIN_"), sorted(each.removeprefix("TWIN_") for each in known))
            said.append(f"{name} is no setting and is ignored." + (f" Did you mean TWIN_{meant}?" if meant else ""))
    return said


def _meant(name: str, known: list[str]) -> str:
    """The setting that a name is nearest to, or the one that it is the end of; none if there are several of these."""
    if close := difflib.get_close_matches(name, known, n=1, cutoff=0.75):
        return close[0]
    ends = [each for each in known if each.endswith(f"_{name}")]
    return ends[0] if len(ends) == 1 else ""
