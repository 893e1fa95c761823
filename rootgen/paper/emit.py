"""Networks and solvers of the paper as prototxt, by name, checked: their text parsed, their shapes inferred."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from typing import Any

from rootgen import errors
from rootgen.generator import render
from rootgen.generator.architectures import Arch, architecture
from rootgen.grouping import Plan, chosen

log = logging.getLogger("rootgen")
OF_DATA = ("test_batch_size", "data", "train_source", "test_source", "mean")  # what a deploy net has not


def emit(
    arch: str,
    *,
    root: int | None = None,
    column: int | None = None,
    tree: int | None = None,
    group: Mapping[str, Any] | None = None,
    basis: str | Mapping[str, str] | None = None,
    plan: Plan | None = None,
    phase: str = render.PHASES[0],
    name: str | None = None,
    classes: int | None = None,
    batch_size: int | None = None,
    test_batch_size: int | None = None,
    crop: int | None = None,
    data: str | PathLike[str] | None = None,
    train_source: str | PathLike[str] | None = None,
    test_source: str | PathLike[str] | None = None,
    mean: str | PathLike[str] | None = None,
    moving_average_fraction: float | None = None,
) -> str:
    """A network of the paper as prototxt, checked: the options are those of `rootgen emit`.

    `root`, `column` or `tree` gives the groups of the first stage, `group` those of single layers by name or pattern
    (4, "96+48+48", "root-4"), `basis` the kernels that stand in for those of all spatial convolutions ("3x1+1x3") or of
    single layers; a `plan` stands for all of them. `phase` is "train_val" or "deploy". What is None is
    the architecture's own.
    """
    options = render.NetOptions(
        phase=errors.word("phase", phase, render.PHASES) or render.PHASES[0],
        name=errors.word("name", name),
        batch_size=errors.whole("batch_size", batch_size),
        test_batch_size=errors.whole("test_batch_size", test_batch_size),
        crop_size=errors.whole("crop", crop),
        classes=errors.whole("classes", classes),
        data=errors.path("data", data),
        train_source=errors.path("train_source", train_source),
        test_source=errors.path("test_source", test_source),
        mean=errors.path("mean", mean),
        moving_average_fraction=errors.above_zero("moving_average_fraction", moving_average_fraction),
    )
    idle = [option for option in OF_DATA if getattr(options, option) is not None]
    if options.phase == "deploy" and idle:
        raise errors.RootgenError(f"{idle[0]} is for a train_val net", hint="drop it, or the phase")
    return checked_net(_architecture(arch), chosen(plan, root, column, tree, group, basis=basis), options)


def solver(
    arch: str,
    *,
    root: int | None = None,
    column: int | None = None,
    tree: int | None = None,
    group: Mapping[str, Any] | None = None,
    basis: str | Mapping[str, str] | None = None,
    plan: Plan | None = None,
    net: str | PathLike[str] = render.SolverOptions.net,
    snapshot_prefix: str | PathLike[str] | None = None,
    train_images: int | None = None,
    test_images: int | None = None,
    batch_size: int | None = None,
    test_batch_size: int | None = None,
    iter_size: int | None = None,
    gpus: int | None = None,
    base_lr: float | None = None,
    max_iter: int | None = None,
    epochs: float | None = None,
    warm_up: float | None = None,
    part: str = render.PARTS[0],
    seed: int | None = None,
    solver_mode: str | None = None,
) -> str:
    """The solver.prototxt that goes with a network of `emit`: the options are those of `rootgen solver`.

    `net` is the train_val net's path, as the run will find it from its working directory. A run of so many `epochs`
    whose rate rises for the first `warm_up` of them takes two solvers, as Caffe has no policy that rises and falls: the
    `part` "warm-up", and "main", which goes on from its last snapshot.
    """
    options = render.SolverOptions(
        net=errors.path("net", net) or render.SolverOptions.net,
        snapshot_prefix=errors.path("snapshot_prefix", snapshot_prefix),
        train_images=errors.whole("train_images", train_images),
        test_images=errors.whole("test_images", test_images),
        batch_size=errors.whole("batch_size", batch_size),
        test_batch_size=errors.whole("test_batch_size", test_batch_size),
        iter_size=errors.whole("iter_size", iter_size),
        gpus=errors.whole("gpus", gpus),
        base_lr=errors.above_zero("base_lr", base_lr),
        max_iter=errors.whole("max_iter", max_iter),
        epochs=errors.above_zero("epochs", epochs),
        warm_up=errors.above_zero("warm_up", warm_up) or 0.0,
        part=errors.word("part", part, render.PARTS) or render.PARTS[0],
        random_seed=None if seed is None else errors.integer("seed", seed),
        solver_mode=errors.word("solver_mode", solver_mode, ("CPU", "GPU")),
    )
    return checked_solver(_architecture(arch), chosen(plan, root, column, tree, group, basis=basis), options)


def _architecture(arch: object) -> Arch:
    if not isinstance(arch, str):
        raise errors.wrong_type("arch", arch, "an architecture's name, one of those that `rootgen list` shows")
    return architecture(arch)


def checked_net(arch: Arch, plan: Plan, options: render.NetOptions) -> str:
    """The rendered net, after its text was parsed and its shapes inferred in each of its phases."""
    from rootgen.net.graph import PHASES
    from rootgen.net.read import from_param
    from rootgen.net.shapes import infer
    from rootgen.proto import prototxt, schema

    if (options.moving_average_fraction or 0) > 1:
        raise errors.RootgenError(
            f"moving_average_fraction is {options.moving_average_fraction:g}, but at most 1 is kept"
        )
    where = f"{arch.name} {plan}"
    crop_size = options.crop_size or arch.crop
    text = render.net(arch, plan, options)
    if plan.compound != Plan():
        text = _several(text, plan.compound, where, crop_size)
    param = prototxt.parse(text, schema.NetParameter, where)
    for phase in ("TEST",) if options.phase == "deploy" else PHASES:
        infer(from_param(param, phase, where=where), input_shape=(3, crop_size, crop_size))
    return text


def _several(text: str, plan: Plan, where: str, crop_size: int) -> str:
    """The rendered net with several convolutions for one where the plan wants that, as in a net of the user's own."""
    from rootgen.transform.transform import TransformOptions, transform

    found = transform(text, plan, where, TransformOptions(input_shape=(3, crop_size, crop_size)))
    for change in found.changes:
        if change.without_basis not in ("", "on the image"):
            log.warning("%s: layer '%s': no basis: %s", where, change.layer.name, change.without_basis)
    return found.text


def checked_solver(arch: Arch, plan: Plan, options: render.SolverOptions) -> str:
    """The rendered solver, after its text was parsed; layers set by hand have to be the network's own."""
    from rootgen.proto import prototxt, schema

    _check_schedule(arch, options)
    if plan.by_hand or plan.basis:
        render.net(arch, plan)
    text = render.solver(arch, plan, options)
    prototxt.parse(text, schema.SolverParameter, where=f"{arch.name} {plan} solver")
    return text


def _check_schedule(arch: Arch, options: render.SolverOptions) -> None:
    """RootgenError where a short run's options contradict each other."""
    if options.epochs is not None and options.max_iter is not None:
        raise errors.RootgenError("both epochs and max_iter say how long the run is", hint="keep one of them")
    if options.epochs is None and (options.warm_up or options.part != render.PARTS[0]):
        raise errors.RootgenError("a warm-up is for a run of so many epochs", hint="give --epochs too")
    whole, rise = render.short_iterations(arch, options)
    if options.epochs is not None and options.warm_up >= options.epochs:
        raise errors.RootgenError(f"a warm-up of {options.warm_up:g} epochs in a run of {options.epochs:g}")
    if options.part != render.PARTS[0] and not rise:
        what = f"no warm-up in {whole} iterations" if options.warm_up else "no warm-up is asked for"
        raise errors.RootgenError(what, hint="give --warm-up EPOCHS, or a longer one")
