"""What a run showed, in sentences and tables of text. Report, model card and terminal say the same thing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fewstep.protocol import Metric, Product, Score
from fewstep.runs.evaluation import Evaluation, Outcome, Row


def headline(evaluation: Evaluation, product: Product) -> str:
    """One sentence: what the student does beside its teacher."""
    student, teacher = evaluation.row("student"), evaluation.row("teacher")
    if student is None:
        return f"{len(evaluation.rows)} contenders were measured on {product.samples} samples."
    metric = _leading(evaluation, product)
    quality = (
        f" {_capital(metric.name.replace('_', ' '))}: {number(student.scores[metric.name].value)}"
        if metric
        else ""
    )
    if teacher is None:
        return f"The student draws in {calls(student)}." + (f"{quality}." if quality else "")
    beside = f" against {number(teacher.scores[metric.name].value)}" if metric else ""
    sentence = f"The student draws in {calls(student)}; its teacher needs {teacher.evaluations}{_pace(student, teacher)}."
    return f"{sentence}{quality}{beside}." if quality else sentence


def _pace(student: Row, teacher: Row) -> str:
    """How much longer the teacher takes; where it does not, both times."""
    ratio = teacher.seconds / max(student.seconds, 1e-9)
    if ratio >= 1:
        return f" and takes {ratio:.3g} times as long"
    return f" ({number(teacher.seconds)} s against the student's {number(student.seconds)} s)"


def verdict(evaluation: Evaluation) -> str:
    """How the gates went, in one sentence."""
    if not evaluation.gates:
        return "This profile has no gate, so nothing is proven."
    passed = sum(gate.passed for gate in evaluation.gates)
    what = "gate" if len(evaluation.gates) == 1 else "gates"
    told = f"{passed} of {len(evaluation.gates)} {what} passed with the control failing"
    return f"{told}." if evaluation.passed else f"Not proven: {told}."


def gate_sentence(gate: Outcome) -> str:
    """One gate: bound, value, control."""
    met = "meets" if gate.met else "misses"
    missed = "misses it, as it must" if gate.missed else "does not miss it, so the bound proves nothing"
    return (
        f"{gate.of} {met} {gate.metric} {gate.bound} with {number(gate.value)}; "
        f"the control {gate.control} ({number(gate.control_value)}) {missed}"
    )


def training(spent: Mapping[str, Mapping[str, float]]) -> str:
    """What each stage of a run cost."""
    told = [
        f"{stage} {cost['updates']:,} updates in {cost['seconds']:,.1f} s" for stage, cost in spent.items()
    ]
    return f"Trained: {', '.join(told)}." if told else "Its training left no metrics."


def table_head(product: Product) -> list[str]:
    """Column names of the contender table."""
    return ["contender", "calls", "seconds", *map(label, product.metrics)]


def label(metric: Metric) -> str:
    """``error (nm) ↓``: name, unit, and where better is."""
    unit = f" ({metric.unit})" if metric.unit else ""
    return f"{metric.name}{unit} {'↓' if metric.better == 'lower' else '↑'}"


def table_rows(evaluation: Evaluation, product: Product) -> list[list[str]]:
    """Texts of the contender table."""
    return [
        [row.contender, str(row.evaluations), number(row.seconds)]
        + [interval(row.scores[metric.name]) for metric in product.metrics]
        for row in evaluation.rows
    ]


def comparison(evaluation: Evaluation, product: Product, most: int = 3) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the contender table, turned on its side when there are more metrics than ``most``.

    Many numbers about a few contenders read better downwards, on a terminal as on a phone.
    """
    head, body = table_head(product), table_rows(evaluation, product)
    if len(product.metrics) <= most:
        return head, body
    turned = [list(column) for column in zip(head, *body, strict=True)]
    return ["", *turned[0][1:]], turned[1:]


def interval(score: Score) -> str:
    """A score with its interval: ``0.12 [0.10, 0.14]``."""
    if score.low == score.high == score.value:
        return number(score.value)
    return f"{number(score.value)} [{number(score.low)}, {number(score.high)}]"


def number(value: float) -> str:
    """Three digits that mean something."""
    return f"{value:.3g}"


def calls(row: Row) -> str:
    """``1 network call`` or ``4 network calls``."""
    return many(row.evaluations, "network call")


def many(count: int, thing: str) -> str:
    """``1 sample`` or ``2 samples``."""
    return f"{count} {thing}{'' if count == 1 else 's'}"


def leading_metrics(evaluation: Evaluation, product: Product, most: int = 3) -> Sequence[Metric]:
    """The metrics that the gates speak of first, then the others."""
    gated = [gate.metric for gate in evaluation.gates]
    return sorted(product.metrics, key=lambda metric: metric.name not in gated)[:most]


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]


def _leading(evaluation: Evaluation, product: Product) -> Metric | None:
    found = leading_metrics(evaluation, product, 1)
    return found[0] if found else None
