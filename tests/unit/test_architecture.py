"""TOP -> EDGES -> PURE, and each foreign library in its own folder: `ls` tells the truth."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "prioritizer"
PURE = frozenset(
    {
        "access",
        "acceptance",
        "study",
        "eligibility",
        "scope",
        "stated_view",
        "pixels",
        "grey_scale",
        "resampling",
        "geometry",
        "calibration",
        "calibration_maps",
        "recalibration",
        "operating_point",
        "cohort_lint",
        "ranking",
        "ruling",
        "threshold",
        "config",
        "config_template",
        "errors",
        "identity",
        "overlay",
        "phantoms",
        "measures",
        "likeness",
        "image_kind",
        "layout",
        "subgroups",
        "movers",
        "reading_room",
        "simulation",
        "simulation_figures",
        "delong",
        "curves",
        "at_threshold",
        "fitness",
        "paired",
        "search",
        "monitoring",
        "verification",
        "unlabelled",
        "study_risk",
        "proportions",
        "board",
        "log_redaction",
        "exception_places",
    }
)
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
BROAD = {
    "web": "the one thread that looks for all pages: whatever goes wrong once, it looks again",
    "dicom": "the C-STORE handler",
    "stations": "the station loop, and one result that is built",
    "receive_station": "one file of a batch",
    "chores": "one timed job",
    "copies": "one differing copy",
    "standing": "one group of alarms",
    "owed": "one piece of work that is owed",
    "contract": "the border of every verb",
    "inference": "whatever sandboxed work raised is its answer",
}


def modules() -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if "_data" not in path.parts)


def room(path: Path) -> str:
    """The folder of an edge, `pure`, or `top`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    if len(parts) > 1:
        return parts[0]
    return "pure" if parts[0] in PURE else "top"


def imports(path: Path) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function, `from prioritizer import x` as `prioritizer.x`."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
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
    found = set()
    for name in imports(path):
        first, _, rest = name.partition(".")
        if first == "prioritizer" and rest and rest != "__version__":
            part = rest.split(".")[0]
            found.add(part if part in EDGES else "pure" if part in PURE else "top")
    return found


MODULES = [pytest.param(path, id=str(path.relative_to(PACKAGE))) for path in modules()]


def test_every_file_has_a_room():
    assert {path.parent.name for path in modules()} - {"prioritizer"} == EDGES
    assert {path.stem for path in PACKAGE.glob("*.py")} >= PURE


@pytest.mark.parametrize("path", MODULES)
def test_arrows_point_down(path: Path):
    here, there = room(path), own_imports(path)
    if here == "top":
        return
    allowed = {"pure"} if here == "pure" else {"pure", here} | {to for start, to in ALLOWED_EDGE_ARROWS if start == here}
    assert there <= allowed


@pytest.mark.parametrize("path", MODULES)
def test_a_foreign_library_stays_in_its_folder(path: Path):
    here = room(path)
    for name in imports(path):
        library = name.split(".")[0]
        homes = {folder for folder, libraries in ROOMS_OF_LIBRARIES.items() if library in libraries}
        assert not homes or here in homes or here in MAY_BE_NAMED_OUTSIDE.get(library, ()), f"{name} is imported in {here}"


@pytest.mark.parametrize("path", [param for param in MODULES if room(param.values[0]) in ("top", "web")])
def test_outside_the_ledger_nobody_writes_sql(path: Path):
    used = {
        node.attr
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sa"
    }
    assert used <= {"Engine", "exc"}


@pytest.mark.parametrize("path", [param for param in MODULES if room(param.values[0]) == "pure"])
def test_pure_modules_read_no_clock_and_draw_no_chance(path: Path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    called = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    assert not called & {"datetime.now", "datetime.utcnow", "time.time", "time.monotonic", "date.today", "random.random", "open"}


def broad_excepts() -> list[str]:
    return [
        str(path.relative_to(PACKAGE).with_suffix(""))
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ExceptHandler)
        and (node.type is None or any(isinstance(n, ast.Name) and n.id in ("Exception", "BaseException") for n in ast.walk(node.type)))
    ]


def test_only_the_named_borders_catch_everything():
    assert {place.split("/")[0] for place in broad_excepts()} <= BROAD.keys()
    # One a border; two in the stations: the loop, and the one item that must not be tried for ever without a word; two in the copies: one
    # that is judged, and one that is put in its place.
    assert len(broad_excepts()) <= len(BROAD) + 2


def fresh(code: str) -> str:
    """What a fresh interpreter prints; warnings are not errors there, other people's imports are."""
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_serving_imports_no_torch():
    names = "('torch', 'torchvision', 'timm', 'sklearn', 'scipy', 'matplotlib', 'onnx')"
    assert fresh(f"import sys, prioritizer.daemon; print([name for name in {names} if name in sys.modules])") == "[]"


def test_asking_for_help_loads_neither_network_nor_model():
    names = "('pynetdicom', 'openvino', 'sqlalchemy', 'fastapi', 'torch')"
    assert fresh(f"import sys, prioritizer.cli; print([name for name in {names} if name in sys.modules])") == "[]"


def test_the_list_on_a_terminal_waits_for_no_dicom_library():
    names = "('pydicom', 'pynetdicom', 'openvino', 'fastapi', 'torch')"
    assert fresh(f"import sys, prioritizer.listing; print([name for name in {names} if name in sys.modules])") == "[]"


def test_there_is_no_corner_for_everything():
    forbidden = {"utils", "helpers", "common", "manager", "service", "core"}
    assert not forbidden & {part for path in modules() for part in path.relative_to(PACKAGE).with_suffix("").parts}


@pytest.mark.parametrize("path", modules(), ids=str)
def test_nothing_is_decided_by_the_order_of_a_set(path: Path):
    """A set of texts has another order in every process: what `next(iter(NAMES))` gives is drawn by chance."""
    assert not re.search(r"next\(iter\((\w+\.)?[A-Z_]+\)", path.read_text()), path


def test_a_signal_handler_takes_no_lock():
    """A handler runs inside whatever its thread does: where that holds the lock of an Event, setting the Event waits for ever."""
    found = [
        f"{path.name}:{node.lineno}"
        for path in modules()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "signal.signal" and ".set()" in ast.unparse(node)
    ]
    assert found == []
