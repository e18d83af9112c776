"""The gateway's settings: each one typed line with its unit and its reason.

Comes in: the environment, or a file of NAME=value lines. Goes out: Settings. Does not know: what is done with them.
"""

from __future__ import annotations

import ipaddress
import re

from pydantic import Field, SecretStr, field_validator

from services import settings


class Settings(settings.Settings):
    """The variable of `gateway_port` is TWIN_GATEWAY_PORT, and so on."""

    gateway_host: str = "127.0.0.1"
    """Address to listen on. Loopback unless told otherwise: whoever opens it to a network does so knowingly."""
    gateway_port: int = Field(8000, ge=0, le=65535)
    gateway_hosts: str = ""
    """Host names, separated by commas, that requests may name beside localhost and the address listened on. A web
    page whose name is made to point here (DNS rebinding) is refused by this."""
    gateway_origins: str = ""
    """Origins of other web pages, separated by commas, that may call from a browser: `https://app.example.org`. They
    need a key as any program does; the page's own session is not theirs."""

    gateway_admin_key: SecretStr = SecretStr("")
    """A first admin's key that the deployment has chosen: `sk-twin-` and at least 32 characters. It is kept like any
    other, as its hash, and replaced when this setting changes; empty: keys are made by `twin keys create` alone."""

    gateway_metrics: str = "localhost:9050"
    """Where a process of its own serves /metrics, without a key; empty: only at the gateway's own address, with one."""

    crawler_address: str = "localhost:50051"
    feature_address: str = "localhost:50052"
    retriever_address: str = "localhost:50053"
    generator_address: str = "localhost:50054"

    documents_url: str = "sqlite:///"
    """Where keys and the audit are kept."""
    limits_url: str = "memory://"

    oidc_issuer: str = ""
    """Whose signed tokens are taken beside API keys: its address, as its tokens name it in `iss`; empty: nobody's."""
    oidc_audience: str = ""
    """What its tokens for Twin name in `aud`."""
    oidc_role_claim: str = "twin_role"
    """The claim that names the role; `a.b` is claim b within claim a."""
    oidc_roles: str = ""
    """VALUE=ROLE,…: what the claim's values mean, where they are not reader, writer and admin."""
    oidc_authors_claim: str = "twin_authors"
    """The claim that names the authors that a token may see; `*` among them: all. Without it: none."""

    gateway_requests_per_minute: int = Field(600, ge=1)
    """Of a key that has no number of its own: ten a second is far above a person, far below a flood."""
    gateway_body_bytes: int = Field(2 * 1024 * 1024, ge=1024)
    """Of a JSON body: it goes on in one gRPC message, which holds 4 MiB."""
    gateway_upload_bytes: int = Field(512 * 1024 * 1024, ge=1024)
    """Of one upload, all its files together; it is never held in memory."""
    gateway_upload_files: int = Field(1000, ge=1)
    gateway_answer_seconds: float = Field(600.0, gt=0)
    """For a whole answer: a slow engine on a laptop takes minutes."""
    gateway_session_days: float = Field(30.0, gt=0)
    """How long a browser that opened the one-time link stays signed in."""

    @field_validator("gateway_admin_key")
    @classmethod
    def _whole_key(cls, key: SecretStr) -> SecretStr:
        if key.get_secret_value() and not re.fullmatch(r"sk-twin-[\x21-\x7e]{32,200}", key.get_secret_value()):
            raise ValueError("sk-twin- and 32 to 200 visible ASCII characters")
        return key

    @field_validator("gateway_origins")
    @classmethod
    def _whole_origins(cls, text: str) -> str:
        given = [each.strip() for each in text.split(",") if each.strip()]
        if not all(re.fullmatch(r"https?://[\w.-]+(:\d+)?|https?://\[[\da-fA-F:]+\](:\d+)?", each) for each in given):
            raise ValueError("origins such as https://app.example.org or http://localhost:5173, without a path")
        return text

    @property
    def hosts(self) -> frozenset[str]:
        """Host names that requests may name, in lower case, without ports."""
        named = (each.strip().lower() for each in self.gateway_hosts.split(","))
        return frozenset({"localhost", "127.0.0.1", "::1", self.gateway_host.lower(), *named} - {""})

    @property
    def origins(self) -> frozenset[str]:
        return frozenset({each.strip().lower() for each in self.gateway_origins.split(",")} - {""})

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach it."""
        try:
            return ipaddress.ip_address(self.gateway_host).is_loopback
        except ValueError:
            return self.gateway_host == "localhost"
