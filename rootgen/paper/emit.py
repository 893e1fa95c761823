"""Networks and solvers of the paper as prototxt, checked: their text parsed, their shapes inferred."""

from __future__ import annotations

from rootgen.generator import render
from rootgen.generator.architectures import Arch
from rootgen.grouping import Plan


def checked_net(arch: Arch, plan: Plan, options: render.NetOptions) -> str:
    """The rendered net, after its text was parsed and its shapes inferred in each of its phases."""
    from rootgen.net.graph import PHASES
    from rootgen.net.read import from_param
    from rootgen.net.shapes import infer
    from rootgen.proto import prototxt, schema

    text = render.net(arch, plan, options)
    where = f"{arch.name} {plan}"
    crop_size = options.crop_size or arch.crop
    param = prototxt.parse(text, schema.NetParameter, where)
    for phase in ("TEST",) if options.phase == "deploy" else PHASES:
        infer(from_param(param, phase, where=where), input_shape=(3, crop_size, crop_size))
    return text


def checked_solver(arch: Arch, plan: Plan, options: render.SolverOptions) -> str:
    """The rendered solver, after its text was parsed; layers set by hand have to be the network's own."""
    from rootgen.proto import prototxt, schema

    if plan.by_hand:
        render.net(arch, plan)
    text = render.solver(arch, plan, options)
    prototxt.parse(text, schema.SolverParameter, where=f"{arch.name} {plan} solver")
    return text
