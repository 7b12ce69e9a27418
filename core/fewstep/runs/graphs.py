"""Two kinds of files that hold a graph and its weights: torch.export's and ONNX."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewstep.errors import FewstepError
from fewstep.protocol import Graph


@dataclass(frozen=True)
class Format:
    """One kind of file.

    Args:
        suffix: of its files.
        write: (graph, file).
        read: file -> a function of the inputs, in order, to the outputs.
        packages: what must be installed.
        extra: which brings them.
    """

    suffix: str
    write: Callable[[Graph, Path], None]
    read: Callable[[Path], Callable[[Sequence[Tensor]], list[Tensor]]]
    packages: tuple[str, ...] = ()
    extra: str = ""

    def require(self) -> None:
        """Find out before any work is spent.

        Raises:
            FewstepError: a package is missing.
        """
        absent = [name for name in self.packages if find_spec(name) is None]
        if absent:
            raise FewstepError(
                f"{self.suffix} files need {', '.join(absent)}", "", f'pip install "fewstep[{self.extra}]"'
            )


def _program(graph: Graph) -> torch.export.ExportedProgram:
    """The traced graph; axes whose length differs between the examples stay free."""
    given = [inputs for inputs, _ in graph.examples]
    free = tuple(
        {
            axis: torch.export.Dim.DYNAMIC
            for axis in range(same[0].ndim)
            if len({x.shape[axis] for x in same}) > 1
        }
        for same in zip(*given, strict=True)
    )
    with torch.no_grad(), _quiet():
        return torch.export.export(
            _Ordered(graph.module), _largest(graph), dynamic_shapes={"given": free}, strict=False
        )


def _largest(graph: Graph) -> tuple[Tensor, ...]:
    """The example to trace: an axis of length 1 would be taken for one that is always so."""
    return tuple(max((inputs for inputs, _ in graph.examples), key=lambda xs: sum(x.numel() for x in xs)))


class _Ordered(torch.nn.Module):
    """The module with one signature, whatever its own."""

    def __init__(self, module: torch.nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        found = self.module(*given)
        return found if isinstance(found, tuple) else (found,)


def _write_torch(graph: Graph, file: Path) -> None:
    with _quiet():
        torch.export.save(_program(graph), file)


def _read_torch(file: Path) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    with _quiet():
        module: Any = torch.export.load(file).module()
    return lambda inputs: list(module(*inputs))


def _write_onnx(graph: Graph, file: Path) -> None:
    import onnx
    from onnxscript import ir, optimizer

    # ONNX gets attention in its plain form, so it is traced in that form: fused kernels lay their output out otherwise.
    with sdpa_kernel(SDPBackend.MATH), _quiet():
        program: Any = torch.onnx.export(
            _program(graph),
            _largest(graph),
            dynamo=True,
            verbose=False,
            optimize=False,
            input_names=list(graph.inputs),
            output_names=list(graph.outputs),
        )
        # The exporter's own optimizer holds every rule against every node: the time of many steps grows with their square.
        # Folding what is constant and merging what is equal leaves as few nodes, in seconds.
        optimizer.fold_constants(program.model)
        passes = ir.passes.common
        lift = passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
        merge = passes.DeduplicateInitializersPass(), passes.CommonSubexpressionEliminationPass()
        for tidy in (passes.RemoveUnusedNodesPass(), lift, *merge, passes.RemoveUnusedNodesPass()):
            tidy(program.model)
        program.save(str(file), external_data=False)
    onnx.checker.check_model(str(file))


def _read_onnx(file: Path) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    names = [port.name for port in session.get_inputs()]

    def answer(inputs: Sequence[Tensor]) -> list[Tensor]:
        given = {name: x.numpy() for name, x in zip(names, inputs, strict=True)}
        return [torch.from_numpy(x) for x in session.run(None, given)]

    return answer


@contextmanager
def _quiet() -> Iterator[None]:
    """The exporters talk about packages that we do not use and print whole graphs; what is wrong is found by comparing."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        with warnings.catch_warnings(), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


FORMATS: Mapping[str, Format] = {
    "torch": Format(".pt2", _write_torch, _read_torch),
    "onnx": Format(".onnx", _write_onnx, _read_onnx, ("onnx", "onnxscript", "onnxruntime"), "onnx"),
}
