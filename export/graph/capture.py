"""From a PyTorch network to the intermediate form."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

import lightseg
from lightseg.errors import Unsupported
from lightseg.export.graph import ops
from lightseg.export.graph.edit import add_op

FRAME = re.compile(r'File "(.+)", line (\d+), in .*\n(.*)')
TORCH, PACKAGE = Path(torch.__file__).parent, Path(lightseg.__file__).parent


def capture(network: nn.Module, height: int, width: int, multiple: int = 1) -> fx.GraphModule:
    """``network``'s evaluation graph in float64, one module of `lightseg.export.graph.ops` per node.

    The network takes N×3×``height``×``width`` and returns one tensor; every size it will ever be given is a multiple
    of ``multiple``. Batch norms arrive as `ops.Affine`. Both facts stay in the graph's ``meta``.

    Errors: `Unsupported` names the first operation outside the set.
    """
    double = copy.deepcopy(network).double().eval()
    example = torch.zeros(1, 3, height, width, dtype=torch.float64)
    program = torch.export.export(double, (example,))
    graph = _Capture(program).build()
    graph.meta |= {"input_shape": (1, 3, height, width), "multiple": multiple}
    return graph


Args = tuple[Any, ...]


class _Capture:
    """One walk over an exported program; ``values`` maps its nodes to ours."""

    def __init__(self, program: torch.export.ExportedProgram) -> None:
        self.program = program
        self.root = nn.Module()
        self.graph = fx.Graph()
        self.values: dict[fx.Node, fx.Node] = {}
        self.tensors = _parameters(program)
        self.split: dict[fx.Node, tuple[fx.Node, int]] = {}
        self.swapped: dict[fx.Node, tuple[fx.Node, int]] = {}

    def build(self) -> fx.GraphModule:
        for node in self.program.graph.nodes:
            if node.op == "placeholder" and node.name not in self.tensors:
                self.values[node] = self.graph.placeholder("image")
            elif node.op == "call_function":
                handler = HANDLERS.get(str(node.target))
                if handler is None:
                    raise Unsupported(f"the operation {node.target} is outside the set the direct writers know")
                _check_options(node)
                handler(self, node, node.args)
            elif node.op == "output":
                self.graph.output(self.values[node.args[0][0]])
        module = fx.GraphModule(self.root, self.graph, "Captured")
        module.graph.eliminate_dead_code()
        module.graph.lint()
        return module.eval()

    def tensor(self, node: fx.Node | None) -> Tensor | None:
        return None if node is None else self.tensors[node.name]

    def emit(self, source: fx.Node, op: nn.Module, *inputs: fx.Node, suffix: str = "") -> None:
        """Add ``op`` under a name that says where it came from.

        Errors: `Unsupported` where an input is a number, a parameter or half of a channel shuffle, or the result has
        not four dimensions.
        """
        strange = [i for i in inputs if i not in self.values]
        if strange or source.meta["val"].dim() != 4:
            what = f"of {strange[0]}" if strange else f"to {source.meta['val'].dim()} dimensions"
            raise Unsupported(f"the operation {source.target} {what} is outside the set the direct writers know")
        name = add_op(self.root, _provenance(source) + suffix, op)
        made = self.values[source] = self.graph.call_module(name, tuple(self.values[i] for i in inputs))
        made.meta |= {"module": _module_path(source), "source": _source_line(source)}


def _parameters(program: torch.export.ExportedProgram) -> dict[str, Tensor]:
    signature = program.graph_signature
    stored: dict[str, Any] = {**program.state_dict, **program.constants}
    names = {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    return {placeholder: stored[name].detach().clone() for placeholder, name in names.items()}


def _check_options(node: fx.Node) -> None:
    """An option no handler reads would be lost silently."""
    options = {k: v for k, v in node.kwargs.items() if k != "memory_format"}
    if options:
        raise Unsupported(f"the operation {node.target} with {options} is outside the set the direct writers know")


def _provenance(node: fx.Node) -> str:
    path, kind = _module_path(node), str(node.target).split(".")[1]
    return path if kind in ("conv2d", "prelu", "batch_norm") else f"{path}.{kind}"


def _module_path(node: fx.Node) -> str:
    """Of the module that makes the call, in the network."""
    stack = list(node.meta.get("nn_module_stack", {}).values())
    path: str = stack[-1][0] if stack else ""
    return path.removeprefix("net.")


def _source_line(node: fx.Node) -> str:
    """``file:line: code`` of the innermost call outside PyTorch itself; empty where the trace was not kept."""
    frames = FRAME.findall(node.meta.get("stack_trace") or "")
    own = [frame for frame in frames if not Path(frame[0]).is_relative_to(TORCH)]
    if not own:
        return ""
    file, line, code = own[-1]
    path = Path(file)
    shown = path.relative_to(PACKAGE.parent) if path.is_relative_to(PACKAGE) else path
    return f"{shown.as_posix()}:{line}: {code.strip()}"


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else (int(value[0]), int(value[-1]))


def _arg(args: Args, position: int, default: Any) -> Any:
    return args[position] if len(args) > position else default


def _same(c: _Capture, node: fx.Node, args: Args) -> None:
    tables: tuple[dict[fx.Node, Any], ...] = (c.values, c.split, c.swapped)
    for table in tables:
        if args[0] in table:
            table[node] = table[args[0]]


def _conv(c: _Capture, node: fx.Node, args: Args) -> None:
    x, weight, *_ = args
    stride, padding, dilation = (_pair(_arg(args, i, d)) for i, d in ((3, 1), (4, 0), (5, 1)))
    bias = c.tensor(_arg(args, 2, None))
    c.emit(node, ops.Conv(c.tensors[weight.name], bias, stride, padding, dilation, _arg(args, 6, 1)), x)


def _deconv(c: _Capture, node: fx.Node, args: Args) -> None:
    x, weight, *_ = args
    kernel = c.tensors[weight.name]
    plain = _pair(_arg(args, 4, 0)) == (0, 0) and _pair(_arg(args, 5, 0)) == (0, 0) and _arg(args, 6, 1) == 1
    square = kernel.shape[2] == kernel.shape[3]
    if _pair(_arg(args, 3, 1)) != tuple(kernel.shape[2:]) or not (plain and square):
        raise Unsupported("only square transposed convolutions whose stride is their kernel can be written directly")
    c.emit(node, ops.Deconv(kernel, c.tensor(_arg(args, 2, None))), x)


def _batch_norm(c: _Capture, node: fx.Node, args: Args) -> None:
    if any(a is None for a in args[1:5]):
        raise Unsupported("only a batch norm with parameters and statistics of its own can be written directly")
    weight, bias, mean, var = (c.tensors[a.name] for a in args[1:5])
    scale = weight / torch.sqrt(var + args[7])
    c.emit(node, ops.Affine(scale, bias - mean * scale), args[0])


def _prelu(c: _Capture, node: fx.Node, args: Args) -> None:
    channels = args[0].meta["val"].shape[1]
    c.emit(node, ops.PReLU(c.tensors[args[1].name].expand(channels).clone()), args[0])


def _cat(c: _Capture, node: fx.Node, args: Args) -> None:
    if _arg(args, 1, 0) != 1:
        raise Unsupported("only concatenations along channels can be written directly")
    c.emit(node, ops.Concat(), *args[0])


def _avg_pool(c: _Capture, node: fx.Node, args: Args) -> None:
    kernel, plain = _pair(args[1]), _pair(_arg(args, 3, 0)) == (0, 0) and not _arg(args, 4, False)
    plain = plain and _arg(args, 6, None) is None
    if kernel[0] != kernel[1] or _pair(_arg(args, 2, kernel) or kernel) != kernel or not plain:
        raise Unsupported("only average pooling with square windows that do not overlap can be written directly")
    c.emit(node, ops.AvgPool(kernel[0]), args[0])


def _upsample(c: _Capture, node: fx.Node, args: Args) -> None:
    x, _, align_corners, factors = args
    if not factors or factors[0] != factors[1] or int(factors[0]) != factors[0]:
        raise Unsupported("only bilinear upsampling by one whole factor can be written directly")
    c.emit(node, ops.Upsample(int(factors[0]), bool(align_corners)), x)


def _reshape(c: _Capture, node: fx.Node, args: Args) -> None:
    """Half of a channel shuffle: n, g·c, h, w → n, g, c, h, w, and back after the transposition."""
    x, shape = args
    channels, *size = x.meta["val"].shape[1:]
    if len(shape) == 5 and shape[1] * shape[2] == channels and list(shape[3:]) == size:
        c.split[node] = (x, int(shape[1]))
        return
    source, groups = c.swapped.get(x, (None, 1))
    if source is None or list(shape) != list(source.meta["val"].shape):
        raise Unsupported("a reshape that is no channel shuffle cannot be written directly")
    index = torch.arange(shape[1]).reshape(groups, shape[1] // groups).T.reshape(-1)
    c.emit(node, ops.Permute(index), source)


def _transpose(c: _Capture, node: fx.Node, args: Args) -> None:
    x, first, second = args
    if x not in c.split or (first, second) != (1, 2):
        raise Unsupported("a transposition that is no channel shuffle cannot be written directly")
    c.swapped[node] = c.split[x]


def _rsub(c: _Capture, node: fx.Node, args: Args) -> None:
    """constant − x, as an affine."""
    x, constant, *factor = args
    if factor not in ([], [1]):
        raise Unsupported(f"the operation {node.target} with a factor cannot be written directly")
    channels = x.meta["val"].shape[1]
    scale = torch.full((channels,), -1.0, dtype=torch.float64)
    c.emit(node, ops.Affine(scale, torch.full_like(scale, float(constant))), x)


def _mean(c: _Capture, node: fx.Node, args: Args) -> None:
    if sorted(args[1]) != [2, 3] or not _arg(args, 2, False):
        raise Unsupported("only means over height and width can be written directly")
    c.emit(node, ops.GlobalMean(), args[0])


Handler = Callable[[_Capture, fx.Node, Args], None]


def _over_channels(op: Callable[[], nn.Module]) -> Handler:
    def handle(c: _Capture, node: fx.Node, args: Args) -> None:
        if _arg(args, 1, None) not in (1, [1]):
            raise Unsupported(f"{node.target} can be written directly only over channels")
        c.emit(node, op(), args[0])

    return handle


def _elementwise(op: Callable[[], nn.Module]) -> Handler:
    def handle(c: _Capture, node: fx.Node, args: Args) -> None:
        c.emit(node, op(), *args)

    return handle


HANDLERS: dict[str, Handler] = {
    "aten.conv2d.default": _conv,
    "aten.conv_transpose2d.input": _deconv,
    "aten.batch_norm.default": _batch_norm,
    "aten.prelu.default": _prelu,
    "aten.cat.default": _cat,
    "aten.add.Tensor": _elementwise(ops.Add),
    "aten.mul.Tensor": _elementwise(ops.Mul),
    "aten.avg_pool2d.default": _avg_pool,
    "aten.mean.dim": _mean,
    "aten.upsample_bilinear2d.vec": _upsample,
    "aten.reshape.default": _reshape,
    "aten.transpose.int": _transpose,
    "aten.softmax.int": _over_channels(ops.Softmax),
    "aten.amax.default": _over_channels(ops.MaxChannel),
    "aten.rsub.Scalar": _rsub,
    "aten.sigmoid.default": _elementwise(ops.Sigmoid),
    "aten.contiguous.default": _same,
    "aten.clone.default": _same,
}
