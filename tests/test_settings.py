"""Names that look like settings and are none."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services import embedded
from tests.cli.command import twin

ROOT = Path(__file__).parent.parent
READ = re.compile(r"""(?:environ(?:\.get)?[\[(]|getenv\(|envvar=)\s*["'](TWIN_[A-Z_]+)["']""")


def test_a_mistyped_setting_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of the environment and of the file, with what may have been meant, and without its value."""
    file = tmp_path / "settings"
    file.write_text("TWIN_LLMURL=quotes://secret\nTWIN_DATA_DIR=/nowhere\nOTHER=1\n")
    monkeypatch.setenv("TWIN_SETTINGS", str(file))
    for name in ("TWIN_GATEWAY_PROT", "TWIN_PORT", "twin_host", "TWIN_PEAKS", "TWIN_TEST_SOMETHING", "TWINE_USERNAME"):
        monkeypatch.setenv(name, "secret")
    assert embedded.unknown_settings() == [
        "TWIN_GATEWAY_PROT is no setting and is ignored. Did you mean TWIN_GATEWAY_PORT?",
        "TWIN_HOST is no setting and is ignored. Did you mean TWIN_GATEWAY_HOST?",
        "TWIN_LLMURL is no setting and is ignored. Did you mean TWIN_LLM_URL?",
        "TWIN_PEAKS is no setting and is ignored.",
        "TWIN_PORT is no setting and is ignored. Did you mean TWIN_GATEWAY_PORT?",
    ]


def test_what_is_read_or_described_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reads it: a service, the command, an adapter, a test, the chart."""
    names = set(re.findall(r"`(TWIN_[A-Z_]+)`", (ROOT / "docs/settings.md").read_text(encoding="utf-8")))
    for folder in ("services", "tests", "benchmarks", "k8s", "charts"):
        for file in (ROOT / folder).rglob("*.py"):
            names.update(READ.findall(file.read_text(encoding="utf-8")))
    for file in (ROOT / "charts/twin/templates").glob("*.*"):
        names.update(re.findall(r"\$\((TWIN_[A-Z_]+)\)", file.read_text(encoding="utf-8")))
    assert {"TWIN_API_KEY", "TWIN_TEST_DATA", "TWIN_MONGODB_PASSWORD", "TWIN_GATEWAY_PORT"} <= names
    for name in names - {"TWIN_SETTINGS"}:
        monkeypatch.setenv(name, "1")
    assert embedded.unknown_settings() == []


@pytest.mark.parametrize("words", [("up", "--example", "--check"), ("doctor",)])
async def test_the_command_names_it_once(tmp_path: Path, words: tuple[str, ...]) -> None:
    """On stderr; everything goes on as if it were not there."""
    environment = {
        "TWIN_DATA_DIR": str(tmp_path),
        "TWIN_ENCODER_URL": "hashing://384",
        "TWIN_GATEWAY_PROT": "1",
    }
    code, out, err = await twin(*words, environment=environment)
    assert code == 0, out + err
    assert err.count("TWIN_GATEWAY_PROT is no setting and is ignored. Did you mean TWIN_GATEWAY_PORT?") == 1
