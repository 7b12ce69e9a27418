"""A page for each recipe, written from the runs that prove it.

``python docs/proofs.py keep RUN...`` takes from finished runs what the pages need: the measured table, the gates, the
settings, the line that repeats it, and once per recipe the model card and, where Chromium is there, a picture of the
report's panels. ``python docs/proofs.py`` writes the pages from what was kept and from the recipes' own descriptors; a
test says when that is due. Nothing on such a page is typed by hand.
"""

from __future__ import annotations

import base64
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fewstep.config.fields import describe
from fewstep.plugins.loader import registry
from fewstep.plugins.specs import Gate, RecipeSpec

TOP = Path(__file__).resolve().parents[1]
BROWSER = shutil.which("chromium") or shutil.which("google-chrome")


def home(recipe: str) -> Path:
    """Where pages and evidence of a recipe's plugin lie."""
    return TOP / "plugins" / recipe.partition("/")[0]


def short(recipe: str) -> str:
    """The recipe's name within its plugin."""
    return recipe.partition("/")[2]


# ------------------------------------------------------------------------------------------------ what a run leaves
def keep(folder: Path) -> Path:
    """Take what a page needs from a finished run; returns the file that was written."""
    from fewstep.runs.runner import load

    run = load(folder)
    facts, table = run.files.facts, run.files.read_json("eval.json")
    name, profile, seed = facts["recipe"], facts["profile"], facts["seed"]
    told = {
        "recipe": name,
        "profile": profile,
        "seed": seed,
        "again": re.sub(r"(?<=[=\"])/[^\s\"']+", "RUN", re.sub(r" --runs \S+", "", str(facts["again"]))),
        "seconds": facts["seconds"],
        "samples": run.product.samples,
        "version": run.files.read_json("environment.json").get("commit"),
        "metrics": [
            {"name": m.name, "unit": m.unit, "better": m.better, "description": m.description}
            for m in run.product.metrics
        ],
        **table,
    }
    place = home(name) / "evidence" / short(name)
    place.mkdir(parents=True, exist_ok=True)
    file = place / f"{profile}-seed{seed}.json"
    file.write_text(json.dumps(told, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if not (place / "card.md").is_file() or seed == 0:
        (place / "card.md").write_text(_card(folder), encoding="utf-8")
        if BROWSER:
            _picture(folder / "report.html", place / "panels.png")
    return file


def _card(folder: Path) -> str:
    """The model card without the path of whoever ran it."""
    return (
        (folder / "MODEL_CARD.md")
        .read_text(encoding="utf-8")
        .replace(str(folder), "RUN")
        .replace(folder.name, "RUN")
    )


def _picture(report: Path, file: Path) -> None:
    """The report's panels as Chromium shows them, cut off below what fits on a page."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service
    from selenium.webdriver.common.by import By

    options = webdriver.ChromeOptions()
    options.binary_location = str(BROWSER)
    with tempfile.TemporaryDirectory() as data:
        for line in (
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={data}",
            "--window-size=1000,8000",
        ):
            options.add_argument(line)
        driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
        try:
            driver.get(report.resolve().as_uri())
            # Nobody can press play on a picture.
            driver.execute_script("document.querySelectorAll('audio').forEach(player => player.remove())")
            box = driver.find_element(By.CSS_SELECTOR, "section.panel").rect
            clip = {
                "x": box["x"],
                "y": box["y"],
                "width": box["width"],
                "height": min(box["height"], 850),
                "scale": 1,
            }
            shot = driver.execute_cdp_cmd(
                "Page.captureScreenshot", {"clip": clip, "captureBeyondViewport": True}
            )
            file.write_bytes(base64.b64decode(shot["data"]))
        finally:
            driver.quit()


# ------------------------------------------------------------------------------------------------------- the pages
def pages() -> dict[Path, str]:
    """Every page that is due: path -> text."""
    specs = {recipe.name: recipe for recipe in registry().recipes}
    return {
        home(name) / "docs" / f"{short(name)}.md": page(specs[name].spec, specs[name].config_class(), runs)
        for name, runs in sorted(_kept().items())
        if name in specs
    }


def _kept() -> dict[str, list[dict[str, Any]]]:
    """Recipe -> what was kept of its runs, by profile and seed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for file in sorted(TOP.glob("plugins/*/evidence/*/*-seed*.json")):
        told = json.loads(file.read_text(encoding="utf-8"))
        found.setdefault(told["recipe"], []).append(told)
    return {name: sorted(runs, key=lambda run: (run["profile"], run["seed"])) for name, runs in found.items()}


def page(spec: RecipeSpec, config: type, runs: Sequence[dict[str, Any]]) -> str:
    """One recipe: what it is, what proves it, what may be set."""
    name = spec.name
    lines = [
        f"# {name}", "", f"{spec.summary}. Method: {spec.paper}.", "", "```bash", f'pip install "fewstep[{spec.extra}]"',
        f"fewstep run {name}", f"fewstep prove {name} --profile smoke", f"fewstep sample {name} --options", "```", "",
        f"Written by `docs/proofs.py` from the runs below; [model card](../evidence/{short(name)}/card.md) of one.", "",
    ]  # fmt: skip
    if (home(name) / "evidence" / short(name) / "panels.png").is_file():
        lines += [f"![Panels of the report of {name}](../evidence/{short(name)}/panels.png)", ""]
    for profile in dict.fromkeys(run["profile"] for run in runs):
        lines += _profile(spec, [run for run in runs if run["profile"] == profile], profile)
    lines += ["## Settings", "", *_settings(config)]
    return "\n".join(lines) + "\n"


def _profile(spec: RecipeSpec, runs: Sequence[dict[str, Any]], profile: str) -> list[str]:
    seeds = ", ".join(str(run["seed"]) for run in runs)
    gates = spec.gates_of(profile)
    lines = [f"## Evidence, profile {profile}, seeds {seeds}", ""]
    if gates:
        lines += [
            _table(("gate", "bound", *(f"seed {run['seed']}" for run in runs)), _gates(gates, runs)),
            "",
        ]
        lines += ["First the student's number, then its control's, which must miss the bound.", ""]
        lines += [
            f"- {gate.metric.replace('_', ' ')}, {_bound(gate)}: {gate.why}." for gate in gates if gate.why
        ]
        lines += [""]
    lines += [_contenders(runs), ""]
    lines += [f"Mean over the seeds, lowest and highest in brackets; {runs[0]['samples']} samples each.", ""]
    lines += [
        f"- **{m['name'].replace('_', ' ')}**: {m['description']}"
        for m in runs[0]["metrics"]
        if m["description"]
    ]
    return [*lines, "", "Repeat it:", "", "```bash", *dict.fromkeys(run["again"] for run in runs), "```", ""]


def _gates(gates: Iterable[Gate], runs: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    return [
        (
            f"{gate.metric.replace('_', ' ')}: {gate.of} / {gate.control}",
            _bound(gate),
            *(
                f"{_number(_score(run, gate.of, gate.metric))} / {_number(_score(run, gate.control, gate.metric))}"
                for run in runs
            ),
        )
        for gate in gates
    ]


def _bound(gate: Gate) -> str:
    return f"at most {gate.at_most:g}" if gate.at_most is not None else f"at least {gate.at_least:g}"


def _contenders(runs: Sequence[dict[str, Any]]) -> str:
    metrics = runs[0]["metrics"]
    head = ("contender", "calls", "seconds", *(_headed(metric) for metric in metrics))
    rows = [
        (
            name,
            str(_row(runs[0], name)["evaluations"]),
            _range([_row(run, name)["seconds"] for run in runs]),
            *(_range([_score(run, name, metric["name"]) for run in runs]) for metric in metrics),
        )
        for name in (row["contender"] for row in runs[0]["rows"])
        if all(name in {row["contender"] for row in run["rows"]} for run in runs)
    ]
    return _table(head, rows)


def _headed(metric: dict[str, str]) -> str:
    unit = f" ({metric['unit']})" if metric["unit"] else ""
    return f"{metric['name'].replace('_', ' ')}{unit} {'↓' if metric['better'] == 'lower' else '↑'}"


def _row(run: dict[str, Any], contender: str) -> dict[str, Any]:
    return next(row for row in run["rows"] if row["contender"] == contender)


def _score(run: dict[str, Any], contender: str, metric: str) -> float:
    return float(_row(run, contender)["scores"][metric]["value"])


def _range(values: Sequence[float]) -> str:
    mean = _number(sum(values) / len(values))
    return mean if len(values) == 1 else f"{mean} [{_number(min(values))}, {_number(max(values))}]"


def _number(value: float) -> str:
    return f"{value:.3g}"


def _settings(config: type) -> list[str]:
    rows = [
        (
            f"`{row.name}`",
            f"`{row.default}`",
            row.unit,
            row.bounds,
            " ".join(filter(None, (row.description, row.paper and f"({row.paper})"))),
        )
        for row in describe(config)
    ]
    return [_table(("setting", "default", "unit", "bounds", "what it is"), rows)]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["keep"]:
        for given in sys.argv[2:]:
            sys.stdout.write(f"{keep(Path(given)).relative_to(TOP)}\n")
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
