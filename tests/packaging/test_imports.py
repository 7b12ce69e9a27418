"""What imports what: entry modules are light, and a plugin uses only what its extra brings."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENTRY_MODULES = ("fewstep_audio", "fewstep_video", "fewstep_3d", "fewstep_protein", "fewstep_text")
HEAVY = ["torch", "numpy", "pydantic", "jinja2", "torchaudio", "librosa", "soundfile", "av", "sklearn"]
HEAVY += ["pytorch3d", "trimesh", "Bio", "tokenizers"]
LIGHT = "import sys, {module}; heavy = {heavy} & set(sys.modules); assert not heavy, heavy"


def _import(module: str, heavy: set[str]) -> subprocess.CompletedProcess[str]:
    code = LIGHT.format(module=module, heavy=heavy)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("package", ENTRY_MODULES)
def test_an_entry_module_imports_nothing_heavy(package):
    done = _import(f"{package}.plugin", set(HEAVY))
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("module", ["fewstep", "fewstep.plugins.loader", "fewstep.cli"])
def test_finding_plugins_imports_no_torch(module):
    done = _import(module, {"torch", "numpy", "jinja2"})
    assert done.returncode == 0, done.stderr


def test_the_pytest_plugin_imports_no_torch_and_no_beartype():
    # it is imported by every pytest run of the environment, before coverage and before jaxtyping's hook
    done = _import("fewstep.testing.pytest_plugin", {"torch", "numpy", "jaxtyping", "beartype"})
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("home", "extra"),
    [
        ("core/fewstep", ""),
        *((f"plugins/{name}/fewstep_{name}", name) for name in ("audio", "video", "3d", "protein", "text")),
    ],
)
def test_a_package_imports_only_what_its_requirements_bring(root, project, home, extra):
    allowed = _declared(project, extra)
    providers = metadata.packages_distributions()
    undeclared = {
        f"{module} ({path.relative_to(root)})"
        for path in sorted((root / home).rglob("*.py"))
        for module in _third_party(path)
        if not {canonicalize_name(name) for name in providers.get(module, [module])} & allowed
    }
    assert not undeclared


FAMILIES = {
    "audio": ("audio", "singing", "music", "listening", "diffusers", "pipelines"),
    "protein": ("protein", "diffusers"),
}
"""Extras of the families of one plugin; each recipe names its own."""

CORE_EXTRAS = ("diffusers", "tensorboard", "serve", "onnx", "test")
"""What the core reaches only inside functions that are used when the extra is there."""

PARTS = {"pydantic": "pydantic-core", "jinja2": "markupsafe", "fastapi": "starlette"}
"""Requirements that always bring a distribution of their own makers, used by its own name."""

BY_HAND = {"tinysoundfont"}
"""What the Makefile installs without what it asks for, and whose absence is told where it is imported."""


def _declared(project: dict, extra: str) -> set[str]:
    """Normalised names of the base requirements and of those of the extras a package may count on."""
    extras = project["project"]["optional-dependencies"]
    wanted = FAMILIES.get(extra, (extra,)) if extra else CORE_EXTRAS
    lines = [*project["project"]["dependencies"], *(line for name in wanted for line in extras[name])]
    names = {canonicalize_name(Requirement(line).name) for line in lines}
    return names | BY_HAND | {part for whole, part in PARTS.items() if whole in names}


def _third_party(path: Path) -> set[str]:
    """Top-level names that a module imports and that are neither standard nor its own package's."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return {name for name in found if name not in sys.stdlib_module_names and not name.startswith("fewstep")}
