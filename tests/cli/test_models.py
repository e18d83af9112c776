"""`twin models`: what is said where what runs a model is not installed."""

from __future__ import annotations

from pathlib import Path

from tests.cli.command import twin


async def test_a_missing_extra_is_named(tmp_path: Path) -> None:
    """In one line with the command that installs it, whichever model is named; nothing is fetched."""
    # A package of that name that is not there, before one that may be.
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['xllamacpp'] = None\n")
    environment = {"TWIN_DATA_DIR": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    for name in ("smollm2", "another"):
        code, out, err = await twin("models", "fetch", name, environment=environment)
        assert (code, out) == (1, "")
        assert len(err.splitlines()) == 1
        assert "extra llamacpp" in err
        assert "pip install 'xllamacpp" in err
    assert not (tmp_path / "models").exists()
