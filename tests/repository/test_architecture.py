"""TOP -> EDGES -> PURE, where PURE is what is neither, and each foreign library in its own folder: `ls` tells the truth."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "prioritizer"
ROOT = PACKAGE.parent
TOP = frozenset({"cli", "daemon", "recalibration", "simulation", "file_scoring", "selfcheck", "clock", "__main__", "__init__"})
EDGES = frozenset({"dicom", "inference", "db", "web", "learning", "reports"})
# learning -> inference: an export proves its bundle with the very engine that will serve it.
# learning -> reports: what was learned is told on a page.
# learning -> dicom: training reads DICOM through the decoder that serves, and a row without age takes it from the header.
ALLOWED_EDGE_ARROWS = frozenset({("web", "db"), ("learning", "inference"), ("learning", "reports"), ("learning", "dicom")})
ROOMS_OF_LIBRARIES = {
    "dicom": {"pydicom", "pynetdicom", "highdicom", "imagecodecs", "rle", "simplejpeg"},
    "db": {"sqlalchemy", "alembic", "psycopg", "argon2"},
    "learning": {"torch", "torchvision", "timm", "onnx", "onnxscript", "safetensors", "sklearn", "scipy", "pytorch_grad_cam"},
    "inference": {"openvino"},
    "web": {"fastapi", "starlette", "uvicorn", "jinja2", "limits", "authlib", "joserfc", "httpx2"},
    "reports": {"matplotlib", "jinja2", "markupsafe"},
}
# An Engine is handed from the daemon to every part that keeps or reads the ledger: its type may be named, no SQL is written.
MAY_BE_NAMED_OUTSIDE = {"sqlalchemy": ("top", "web")}
MAX_LINES, MAX_LINES_OF_DAEMON = 300, 200
# Where everything is caught: the file, how often, and the one item that fails there without stopping the others.
CATCHES_EVERYTHING = {
    "prioritizer/web/live/change_feed.py": (1, "the one thread that looks for all pages: whatever goes wrong once, it looks again"),
    "prioritizer/dicom/scp/store.py": (1, "the C-STORE handler"),
    "prioritizer/daemon/worker.py": (1, "the loop of a worker"),
    "prioritizer/daemon/publish.py": (1, "one result that is built"),
    "prioritizer/daemon/receive.py": (1, "one file of a batch"),
    "prioritizer/daemon/scheduled_jobs.py": (1, "one scheduled job"),
    "prioritizer/daemon/differing_copies.py": (2, "one copy that is judged, and one that is put in its place"),
    "prioritizer/daemon/alarms.py": (1, "one group of alarms"),
    "prioritizer/daemon/owed_work.py": (1, "one piece of work that is owed"),
    "prioritizer/cli/exit_codes.py": (1, "the border of every verb"),
    "prioritizer/inference/sandbox.py": (1, "whatever sandboxed work raised is its answer"),
}
# Folders of tests/ that are none of the package: what they hold.
TESTS_OF_NO_FOLDER = {
    "support": "what tests are made with",
    "system": "the whole daemon, command line or browser",
    "repository": "the repository itself: its rules, documents and wheel",
    "data": "files that tests read",
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)


def name_of(path: Path) -> str:
    return str(path.relative_to(PACKAGE.parent))


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def room(path: Path) -> str:
    """The folder of an edge, `pure`, or `top`."""
    return room_of(path.relative_to(PACKAGE).with_suffix("").parts[0])


def room_of(part: str) -> str:
    """The room of the first part below the package: a folder or a module."""
    return part if part in EDGES else "top" if part in TOP else "pure"


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function, `from prioritizer import x` as `prioritizer.x`."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: a relative import"
            if node.module == "prioritizer":
                yield from (f"prioritizer.{alias.name}" for alias in node.names)
            elif node.module:
                yield node.module


def own_imports(path: Path) -> set[str]:
    """The rooms that a module of ours imports from."""
    own = (name.split(".") for name in imports(path) if name.startswith("prioritizer."))
    return {room_of(parts[1]) for parts in own if parts[1] != "__version__"}


def test_every_name_of_the_rule_exists():
    assert {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in modules()} >= EDGES | TOP


def test_arrows_point_down():
    def allowed(here: str) -> set[str]:
        return {"pure", here} | {to for start, to in ALLOWED_EDGE_ARROWS if start == here}

    offenders = {name_of(path): bad for path in modules() if room(path) != "top" and (bad := own_imports(path) - allowed(room(path)))}
    assert offenders == {}


def test_no_module_is_longer_than_a_person_reads_in_one_go():
    assert {name_of(path): lines for path in modules() if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MAX_LINES} == {}
    (daemon,) = (node for node in tree_of(PACKAGE / "daemon" / "daemon.py").body if isinstance(node, ast.ClassDef))
    assert (daemon.end_lineno or 0) - daemon.lineno < MAX_LINES_OF_DAEMON


def test_no_module_imports_itself_by_way_of_others():
    """Imports for types alone and those inside functions count."""
    names = {str(path.relative_to(PACKAGE.parent).with_suffix("")).replace("/", ".") for path in modules()}
    graph = TopologicalSorter(
        {
            dotted: {found for found in imported_modules(path, names) if found != dotted}
            for path in modules()
            if (dotted := str(path.relative_to(PACKAGE.parent).with_suffix("")).replace("/", ".")) in names
        }
    )
    graph.prepare()


def imported_modules(path: Path, names: set[str]) -> Iterator[str]:
    """The modules of ours that a file imports, each by its dotted name."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            yield from inner & names or {node.module} & names


def test_a_foreign_library_stays_in_its_folder():
    def is_at_home(library: str, here: str) -> bool:
        homes = {folder for folder, libraries in ROOMS_OF_LIBRARIES.items() if library in libraries}
        return not homes or here in homes or here in MAY_BE_NAMED_OUTSIDE.get(library, ())

    offenders = [(name_of(path), name) for path in modules() for name in imports(path) if not is_at_home(name.split(".")[0], room(path))]
    assert offenders == []


def test_outside_the_ledger_nobody_writes_sql():
    offenders = {
        (name_of(path), node.attr)
        for path in modules()
        if room(path) in ("top", "web")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sa"
    }
    assert {offender for offender in offenders if offender[1] not in ("Engine", "exc")} == set()


def test_pure_modules_read_no_clock_and_draw_no_chance():
    impure = {"datetime.now", "datetime.utcnow", "time.time", "time.monotonic", "date.today", "random.random", "open"}
    offenders = [
        (name_of(path), call)
        for path in modules()
        if room(path) == "pure"
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and (call := ast.unparse(node.func)) in impure
    ]
    assert offenders == []


def test_only_the_named_borders_catch_everything():
    broad = Counter(
        name_of(path)
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or any(isinstance(n, ast.Name) and n.id in ("Exception", "BaseException") for n in ast.walk(node.type)))
    )
    assert broad == {name: count for name, (count, _) in CATCHES_EVERYTHING.items()}


def fresh(code: str) -> str:
    """What a fresh interpreter prints; warnings are not errors there, other people's imports are."""
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_serving_imports_no_torch():
    names = "('torch', 'torchvision', 'timm', 'sklearn', 'scipy', 'matplotlib', 'onnx')"
    assert fresh(f"import sys, prioritizer.daemon.daemon; print([name for name in {names} if name in sys.modules])") == "[]"


def test_asking_for_help_loads_neither_network_nor_model():
    names = "('pynetdicom', 'openvino', 'sqlalchemy', 'fastapi', 'torch')"
    assert fresh(f"import sys, prioritizer.cli.app; print([name for name in {names} if name in sys.modules])") == "[]"


def test_the_list_on_a_terminal_waits_for_no_dicom_library():
    names = "('pydicom', 'pynetdicom', 'openvino', 'fastapi', 'torch')"
    assert fresh(f"import sys, prioritizer.cli.print_worklist; print([name for name in {names} if name in sys.modules])") == "[]"


def test_there_is_no_corner_for_everything():
    forbidden = {"utils", "helpers", "common", "manager", "service", "core"}
    assert not forbidden & {part for path in modules() for part in path.relative_to(PACKAGE).with_suffix("").parts}


def test_nothing_is_decided_by_the_order_of_a_set():
    """A set of texts has another order in every process: what `next(iter(NAMES))` gives is drawn by chance."""
    assert [name_of(path) for path in modules() if re.search(r"next\(iter\((\w+\.)?[A-Z_]+\)", path.read_text())] == []


def test_a_signal_handler_takes_no_lock():
    """A handler runs inside whatever its thread does: where that holds the lock of an Event, setting the Event waits for ever."""
    found = [
        f"{name_of(path)}:{node.lineno}"
        for path in modules()
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "signal.signal" and ".set()" in ast.unparse(node)
    ]
    assert found == []


# --- tests/ mirrors the package ------------------------------------------------------------------------------------


def folders_without_a_place(root: Path) -> set[str]:
    """Folders below tests/ that have no namesake in the package and are not in `TESTS_OF_NO_FOLDER`."""
    folders = {str(path.parent.relative_to(root / "tests")) for path in (root / "tests").rglob("*.py")} - {"."}
    free = {folder for folder in folders if Path(folder).parts[0] in TESTS_OF_NO_FOLDER}
    return {folder for folder in folders - free if not (root / "prioritizer" / folder).is_dir()}


def names_imported(root: Path) -> Iterator[tuple[str, str, str]]:
    """(file, module, name) of everything that tests and benchmarks import out of tests/; the name is empty where a module is meant."""
    for path in sorted([*(root / "tests").rglob("*.py"), *(root / "benchmarks").rglob("*.py")]):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tests":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    is_module = (root / inner.replace(".", "/")).with_suffix(".py").is_file()
                    yield str(path.relative_to(root)), inner if is_module else str(node.module), "" if is_module else alias.name
            elif isinstance(node, ast.Import):
                yield from ((str(path.relative_to(root)), alias.name, "") for alias in node.names if alias.name.startswith("tests."))


def fixtures_of(root: Path) -> set[tuple[str, str]]:
    """(module, function) of every fixture in tests/."""
    return {
        (str(path.relative_to(root).with_suffix("")).replace("/", "."), node.name)
        for path in (root / "tests").rglob("*.py")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef) and any("pytest.fixture" in ast.unparse(decorator) for decorator in node.decorator_list)
    }


def imports_of_test_modules(root: Path) -> set[str]:
    """Imports out of a module that holds tests, or fixtures for a folder of them."""
    found = ((file, module) for file, module, _ in names_imported(root) if module.split(".")[-1].startswith(("test_", "conftest")))
    return {f"{file}: {module}" for file, module in found}


def imports_of_fixtures(root: Path) -> set[str]:
    """Fixtures that are imported by name: pytest finds those of a conftest.py by itself."""
    fixtures = fixtures_of(root)
    return {f"{file}: {module}.{name}" for file, module, name in names_imported(root) if (module, name) in fixtures}


def test_tests_lie_in_the_folder_of_what_they_test():
    assert folders_without_a_place(ROOT) == set()
    assert {folder for folder in TESTS_OF_NO_FOLDER if not (ROOT / "tests" / folder).is_dir()} == set()


def test_no_test_module_is_imported_from():
    assert imports_of_test_modules(ROOT) == set()


def test_no_fixture_is_imported_by_name():
    assert ("tests.conftest", "ledger") in fixtures_of(ROOT)
    assert imports_of_fixtures(ROOT) == set()


@pytest.mark.parametrize(
    ("rule", "file", "text", "offence"),
    [
        (folders_without_a_place, "tests/peers/test_sender.py", "", "peers"),
        (folders_without_a_place, "tests/dicom/sender/test_sender.py", "", "dicom/sender"),
        (
            imports_of_test_modules,
            "tests/dicom/test_a.py",
            "from tests.dicom.test_b import peer",
            "tests/dicom/test_a.py: tests.dicom.test_b",
        ),
        (imports_of_test_modules, "benchmarks/a.py", "import tests.dicom.test_b", "benchmarks/a.py: tests.dicom.test_b"),
        (imports_of_test_modules, "tests/dicom/test_a.py", "from tests import conftest", "tests/dicom/test_a.py: tests.conftest"),
        (
            imports_of_fixtures,
            "tests/dicom/test_a.py",
            "from tests.support.pacs import orthanc",
            "tests/dicom/test_a.py: tests.support.pacs.orthanc",
        ),
    ],
)
def test_each_rule_of_the_tests_can_be_broken(tmp_path: Path, rule: Callable[[Path], set[str]], file: str, text: str, offence: str):
    (tmp_path / "prioritizer" / "dicom").mkdir(parents=True)
    fixture = "import pytest\n\n\n@pytest.fixture(scope='module')\ndef orthanc():\n    return 1\n"
    for name, content in {"tests/conftest.py": "", "tests/support/pacs.py": fixture, "tests/dicom/test_right.py": ""}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    assert rule(tmp_path) == set()
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text(text)
    assert rule(tmp_path) == {offence}
