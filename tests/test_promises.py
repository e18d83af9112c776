"""docs/promises.md and the tests say the same: which test shows which clause of which promise."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "promises.md"
NUMBERS = range(1, 11)


def documented() -> dict[int, dict[str, list[str]]]:
    """By promise: each clause with the ids of its tests."""
    found: dict[int, dict[str, list[str]]] = {}
    number = 0
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"## (\d+)\. ", line):
            number = int(heading[1])
            found[number] = {}
        elif line.startswith("| ") and not line.startswith("| clause"):
            _, clause, tests, _ = line.split("|")
            found[number][clause.strip()] = re.findall(r"`(tests/[\w/]+\.py::\w+)`", tests)
    return found


def marked() -> dict[int, set[str]]:
    """By promise: the ids of the tests that carry its mark, read from the files (a collection takes many seconds)."""
    found: dict[int, set[str]] = defaultdict(set)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name, marks = node.name, "\n".join(ast.unparse(each) for each in node.decorator_list)
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                name, marks = node.targets[0].id, ast.unparse(node.value)
            else:
                continue
            for number in re.findall(r"\bmark\.promise\((\d+)\)", marks):
                assert re.match(r"test_|Test", name), f"{path.name}: {name} has a promise's mark and is no test"
                found[int(number)].add(f"{path.relative_to(ROOT).as_posix()}::{name}")
    return found


def test_each_promise_is_listed_and_each_clause_has_a_test() -> None:
    """The page has the promises 1 to 10, and no clause without a test."""
    page = documented()
    assert list(page) == list(NUMBERS)
    for number, clauses in page.items():
        assert clauses, f"promise {number} has no clause"
        for clause, tests in clauses.items():
            assert tests, f"promise {number}: no test shows that {clause}"


@pytest.mark.parametrize("number", NUMBERS)
def test_page_and_marks_name_the_same_tests(number: int) -> None:
    """A test that the page names exists and carries the promise's mark; a test that carries it is named."""
    named = {test for tests in documented()[number].values() for test in tests}
    marks = marked()[number]
    assert named - marks == set(), "named in docs/promises.md, but without this mark or not there"
    assert marks - named == set(), "marked, but missing in docs/promises.md"
