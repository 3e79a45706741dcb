"""Are the fault rows that tests cite explained?  `docs/reliability.md` has them all, and names the tests of each."""

import ast
import re
import textwrap
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reliability.md"
EXPLAINED = re.compile(r"^\* \*\*([A-Z]\d{1,2})\*\* ", re.MULTILINE)
ROW = r"[A-Z]\d{1,2}"
CITATION = re.compile(rf"(?:[A-Z][a-z]+, )?({ROW}(?:(?:, | |-){ROW})*): ")
PROOFS = re.compile(r"(<!-- proofs -->\n).*?(<!-- /proofs -->)", re.DOTALL)
WIDTH = 120


def rows_of(docstring: str) -> Iterator[str]:
    """The rows that a docstring begins with: `A4: …`, `X1, M6: …`, `D4 D5 A1: …`, `U1-U12: …`."""
    if cited := CITATION.match(docstring):
        for first, last in re.findall(rf"({ROW})(?:-({ROW}))?", cited[1]):
            until = int(last[1:]) if last else int(first[1:])
            yield from (f"{first[0]}{number}" for number in range(int(first[1:]), until + 1))


def citations() -> Iterator[tuple[str, str]]:
    """Every row that a docstring of the tests begins with, and the file in which it does."""
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):  # also the rules of a state machine
                for row in rows_of(ast.get_docstring(node) or ""):
                    yield row, str(path.relative_to(ROOT / "tests"))


def proofs(page: str) -> str:
    """The list of test files by row, in the order of the page."""
    files: dict[str, set[str]] = defaultdict(set)
    for row, path in citations():
        files[row].add(path.removesuffix(".py").replace("test_", ""))
    lines = [
        textwrap.fill(" ".join(sorted(files[row])), WIDTH, initial_indent=f"{row:<5}", subsequent_indent=" " * 5)
        for row in EXPLAINED.findall(page)
        if row in files
    ]
    return "\n".join(["```", *lines, "```", ""])


def test_every_row_that_a_test_cites_is_explained() -> None:
    """Rows: whoever reads one in front of a test finds in docs/reliability.md what it means."""
    explained = EXPLAINED.findall(PAGE.read_text())
    assert [] == [row for row in explained if explained.count(row) > 1]
    assert [] == [citation for citation in citations() if citation[0] not in explained]


def test_every_row_that_the_code_cites_is_explained() -> None:
    """Rows: comments of the gateway cite no others."""
    explained = set(EXPLAINED.findall(PAGE.read_text()))
    cited = re.compile(rf"\brows? ({ROW}(?:(?:, | and ){ROW})*)")
    found = {
        (path.name, row)
        for path in (ROOT / "gateway").rglob("*.py")
        for rows in cited.findall(path.read_text())
        for row in re.findall(ROW, rows)
    }
    assert found
    assert set() == {(name, row) for name, row in found if row not in explained}


def test_every_row_names_its_tests() -> None:
    """Rows: the list of proofs is what the docstrings say; `python -m tests.behaviour.test_reliability_rows` writes it anew."""
    page = PAGE.read_text()
    found = PROOFS.search(page)
    assert found is not None
    assert f"{found[1]}{proofs(page)}{found[2]}" == found[0]


def test_the_docstrings_are_read_as_they_are_written() -> None:
    """Rows: with commas, with spaces, as a range or behind a word; and a word that is no row is none."""
    assert ["A4"] == list(rows_of("A4: the sums are those of the records."))
    assert ["R2", "R9", "R10", "L4"] == list(rows_of("R2, R9, R10, L4: only calls that were in flight wait."))
    assert ["C6", "A15"] == list(rows_of("C6 A15: a kept answer is not given to a revoked key."))
    assert ["U1", "U2", "U3"] == list(rows_of("U1-U3: whatever the upstream does."))
    assert ["L9"] == list(rows_of("Rollbacks, L9: it holds its place while it is renewed."))
    assert [] == list(rows_of("Streams: U3 is no citation here."))


if __name__ == "__main__":
    text = PAGE.read_text()
    PAGE.write_text(PROOFS.sub(lambda found: found[1] + proofs(text) + found[2], text))
