"""charts/twin/README.md from the comments of charts/twin/values.yaml: `python charts/readme.py`.

Comes in: values.yaml, where every value has the comment above it. Goes out: the page, or one line for each value that
has none. Does not know: what a value does.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parent / "twin"
HEAD = """# The chart `twin`

Made from the comments of `values.yaml` by `make chart-docs`. How to install, choose and upgrade is in
[docs/kubernetes.md](../../docs/kubernetes.md).

```sh
helm install twin charts/twin --namespace twin --create-namespace
helm test twin --namespace twin
```

| value | default | |
|---|---|---|
"""
WHOLE = ("resources", "annotations", "settings", "tolerations", "dns", "prometheus")
"""Maps and lists that are one value."""


def comments(text: str) -> dict[str, str]:
    """Path of each key → the comment above it."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    above: list[str] = []
    for line in text.splitlines():
        if comment := re.match(r"\s*# ?(.*)", line):
            above.append(comment[1])
        elif key := re.match(r"(\s*)([\w./-]+):", line):
            depth = len(key[1])
            path = [*((at, name) for at, name in path if at < depth), (depth, key[2])]
            found[".".join(name for _, name in path)] = " ".join(above)
            above = []
        else:
            above = []
    return found


def rows(values: dict[str, Any], said: dict[str, str], path: str = "") -> list[tuple[str, str, str]]:
    made = []
    for key, value in values.items():
        here = f"{path}.{key}".lstrip(".")
        if isinstance(value, dict) and value and key not in WHOLE:
            made += [(f"**{here}**", "", said.get(here, "")), *rows(value, said, here)]
        else:
            made.append((f"`{here}`", f"`{json.dumps(value, ensure_ascii=False)}`", said.get(here, "")))
    return made


def page() -> str:
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    table = rows(yaml.safe_load(text), comments(text))
    if silent := [name for name, _, comment in table if not comment]:
        sys.exit(f"values.yaml says nothing about {', '.join(silent)}")
    escaped = ([each.replace("|", "\\|") for each in row] for row in table)
    return HEAD + "".join(f"| {' | '.join(row)} |\n" for row in escaped)


if __name__ == "__main__":
    (CHART / "README.md").write_text(page(), encoding="utf-8")
