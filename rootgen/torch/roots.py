"""Filter groups for any PyTorch model, by the rule of `rootgen transform`.

The model runs once on an example; hooks see its convolutions, and autograd's graph tells which of them lie between the
image and each: a stage begins where the output size changes from that of the spatial convolution before.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from rootgen import errors
from rootgen.errors import RootgenError
from rootgen.grouping import Plan, check_named, chosen, of_layer
from rootgen.net.graph import Shape
from rootgen.text import Shown, Table, percent_change, shape_text
from rootgen.transform.planned import not_dividing
from rootgen.transform.stages import STEPS

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


@dataclass(frozen=True)
class GroupChange:
    """The groups of one convolution before and after; `kept` says why the rule leaves it, else "".

    `stage` counts from 0, None on the image; `output` is the shape of one image's output; `uses` is how often each
    weight is multiplied for one image.
    """

    name: str
    stage: int | None
    output: Shape
    channels: int
    before: int
    after: int
    weights: tuple[int, int]
    uses: int
    kept: str = ""


@dataclass(repr=False)
class Changes(Shown):
    """What to_roots did to each spatial convolution, and what that saves."""

    plan: Plan
    convolutions: tuple[GroupChange, ...] = ()

    def tables(self) -> list[Table]:
        """A row per spatial convolution, then the weights and multiply-adds of all of them."""
        rows = [
            [
                one.name,
                "-" if one.stage is None else one.stage + 1,
                shape_text(one.output),
                one.channels,
                one.before if one.before == one.after else f"{one.before} -> {one.after}",
                f"kept: {one.kept}" if one.kept else "",
            ]
            for one in self.convolutions
        ]
        totals: list[list[object]] = []
        for name, use in (("weights", lambda one: 1), ("multiply-adds", lambda one: one.uses)):
            old, new = (sum(one.weights[i] * use(one) for one in self.convolutions) for i in (0, 1))
            totals.append([name, f"{old:,}", f"{new:,}", percent_change(old, new)])
        return [
            Table(["convolution", "stage", "output", "channels in", "group", ""], rows, str(self.plan)),
            Table(["spatial convolutions", "before", "after", "change"], totals),
        ]


class RootModule(nn.Module):
    """A model with filter groups: `model` is the model, called as it is called, and `changes` says what was done."""

    def __init__(self, model: nn.Module, changes: Changes) -> None:
        super().__init__()
        self.model, self.changes = model, changes

    def forward(self, *inputs: Any, **by_name: Any) -> Any:
        """What the model gives."""
        return self.model(*inputs, **by_name)


def to_roots(
    model: nn.Module,
    root: int | None = None,
    *,
    column: int | None = None,
    tree: int | None = None,
    group: Mapping[str, int | str] | None = None,
    plan: Plan | None = None,
    example: Tensor | tuple[Any, ...] | None = None,
    stage_by: str = "resolution",
    init: Callable[[nn.Module], object] | None = None,
) -> RootModule:
    """A copy of `model` whose spatial convolutions have the groups of the plan; `model` stays as it is.

    A rule gives groups by stage, `group` to single convolutions by module name. The convolution on the image keeps
    what it has; so does one that is depthwise, or whose channels the groups do not divide. `example` is a batch to run
    the model on, or a tuple of its arguments; by default one image of 3x224x224. Convolutions that change get fresh
    weights by `init`, by default as PyTorch makes such a layer (its reset_parameters). RootgenError where no
    convolution can take groups, or one set by hand cannot.
    """
    if not isinstance(model, nn.Module):
        raise errors.wrong_type("model", model, "a torch.nn.Module")
    asked = chosen(plan, root, column, tree, group)
    if asked == Plan():
        raise RootgenError("no groups asked for", hint="root=8, column=4, tree=2 or group={'layer1.conv2': 4}")
    if (several := asked.compound) != Plan():
        raise RootgenError(
            f"{several} takes several convolutions for one", hint="rootgen.transform does it to Caffe nets"
        )
    errors.word("stage_by", stage_by, STEPS)
    where = type(model).__name__
    copied = copy.deepcopy(model)
    seen = _seen(copied, example, where)
    changes = tuple(_planned(seen, copied, asked, STEPS[stage_by], where))
    _check(changes, asked, where)
    modules = dict(copied.named_modules())
    for change in changes:
        if change.after != change.before:
            _regroup(modules[change.name], change, init, where)
    return RootModule(copied, Changes(asked, changes))


@dataclass
class _Seen:
    """A convolution's first run: where it reads in autograd's graph, and the shape that it gave."""

    name: str
    module: Any
    output: Shape
    reads: Any
    node: Any
    stage: int | None = field(default=None)


def _seen(model: nn.Module, example: Tensor | tuple[Any, ...] | None, where: str) -> list[_Seen]:
    """The convolutions of a model in the order in which they run on the example, in eval mode."""
    names = {module: name for name, module in model.named_modules() if isinstance(module, _CONVOLUTIONS)}
    found: dict[Any, _Seen] = {}

    def saw(module: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        if module not in found:
            shape = tuple(output.shape[-len(module.kernel_size) - 1 :])
            found[module] = _Seen(names[module], module, shape, inputs[0].grad_fn, output.grad_fn)

    training = {module: module.training for module in model.modules()}
    needs = {parameter: parameter.requires_grad for parameter in model.parameters()}
    first = next(model.parameters(), torch.zeros(()))
    if example is None:
        example = torch.zeros(1, 3, 224, 224, device=first.device, dtype=first.dtype)
    hooks = [module.register_forward_hook(saw) for module in names]
    model.requires_grad_(True).eval()
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            model(*example) if isinstance(example, tuple) else model(example)
    except Exception as error:  # a model may fail in every possible way
        told = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise RootgenError(
            f"does not run on the example: {told}", where=where, hint="pass a batch as example"
        ) from error
    finally:
        for hook in hooks:
            hook.remove()
        for module, mode in training.items():
            module.training = mode
        for parameter, need in needs.items():
            parameter.requires_grad_(need)
    return list(found.values())


def _planned(
    seen: Sequence[_Seen], model: nn.Module, plan: Plan, step: Callable[[Shape, Shape], bool], where: str
) -> Iterator[GroupChange]:
    """What the plan means for each spatial convolution, and for others that it sets by hand."""
    spatials = [one for one in seen if prod(one.module.kernel_size) > 1]
    _set_stages(spatials, step)
    stages = max((one.stage + 1 for one in spatials if one.stage is not None), default=0)
    check_named(plan, {one.name for one in seen}, where)
    for one in seen:
        module = one.module
        hand = of_layer(plan.by_hand, one.name)
        rule = hand if isinstance(hand, Plan) else plan
        if isinstance(hand, int):
            why = not_dividing(hand, module.in_channels, module.out_channels)
            if why:
                raise RootgenError(f"{why} (PyTorch needs groups to divide both)", where=f"{where}: '{one.name}'")
            yield _change(one, hand, "")
        elif one in spatials and rule.kind != "original":
            group = 1 if one.stage is None else rule.stage_groups(stages)[one.stage]
            kept = _kept(one, group)
            yield _change(one, module.groups if kept else group, kept)


def _set_stages(spatials: Sequence[_Seen], step: Callable[[Shape, Shape], bool]) -> None:
    """The stage of each spatial convolution that does not read the image itself; as in transform/stages.py."""
    by_node = {one.node: one for one in spatials}
    for one in spatials:
        if one.reads is None:
            continue
        nearest, waiting, passed = [], [one.reads], set()
        while waiting:
            node = waiting.pop()
            if node is None or node in passed:
                continue
            passed.add(node)
            if node in by_node:
                nearest.append(by_node[node])
            else:
                waiting += [behind for behind, _ in node.next_functions]
        size = one.output[1:]
        steps = [other.stage + step(other.output[1:], size) for other in nearest if other.stage is not None]
        one.stage = max(steps, default=0)


def _kept(one: _Seen, group: int) -> str:
    """Why a rule leaves a convolution's groups as they are; "" where it does not."""
    if one.stage is None:
        return "on the image"
    if one.module.groups == one.module.in_channels > 1:
        return "depthwise"
    return not_dividing(group, one.module.in_channels, one.module.out_channels)


def _change(one: _Seen, group: int, kept: str) -> GroupChange:
    module = one.module
    weights = module.weight.numel()
    after = weights * module.groups // group
    uses = prod(one.output[1:])
    return GroupChange(
        one.name, one.stage, one.output, module.in_channels, module.groups, group, (weights, after), uses, kept
    )


def _check(changes: Sequence[GroupChange], plan: Plan, where: str) -> None:
    """Refuse a plan that no convolution can follow."""
    if plan.kind == "original":
        return
    if all(change.kept == "on the image" for change in changes):
        raise RootgenError("has no spatial convolution to give groups to, besides those on the image", where=where)
    if all(change.kept for change in changes):
        last = next((one for one in reversed(changes) if one.kept not in ("on the image", "depthwise")), changes[-1])
        raise RootgenError(f"{plan} fits none of its spatial convolutions: '{last.name}': {last.kept}", where=where)


def _regroup(module: Any, change: GroupChange, init: Callable[[nn.Module], object] | None, where: str) -> None:
    """Give a convolution its groups, and fresh weights."""
    weight = module._parameters.get("weight")
    if weight is None or getattr(module, "parametrizations", None):
        raise RootgenError(
            "its weight is made by something else (weight_norm, a parametrization)",
            where=f"{where}: '{change.name}'",
            hint="take that off before, put it on again after",
        )
    shape = (module.out_channels, module.in_channels // change.after, *module.kernel_size)
    module.groups = change.after
    module.weight = nn.Parameter(weight.new_empty(shape), requires_grad=weight.requires_grad)
    with torch.no_grad():
        init(module) if init else module.reset_parameters()
