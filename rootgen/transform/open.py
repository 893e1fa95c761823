"""Filter groups for nets from Python: a net that was read, or the path of one, and what is wanted of it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from os import PathLike
from typing import Any

from rootgen import errors
from rootgen.grouping import Plan, chosen
from rootgen.net.load import LoadedNet
from rootgen.net.open import check_keywords, net_of
from rootgen.transform import transform as transformer
from rootgen.transform.result import Transformed

log = logging.getLogger("rootgen")


def transform(
    net: LoadedNet | str | PathLike[str],
    *,
    root: int | None = None,
    column: int | None = None,
    tree: int | None = None,
    group: Mapping[str, Any] | None = None,
    basis: str | Mapping[str, str] | None = None,
    plan: Plan | None = None,
    stage_by: str = transformer.STAGE_BY[0],
    insert_1x1: bool = False,
    partial: bool = False,
    **reading: Any,
) -> Transformed:
    """`net` with other filter groups; all else of its text stays as it is, comments included.

    `root`, `column` or `tree` gives the groups of the first stage, `group` those of single layers by name or pattern
    (4, "96+48+48", "root-4"), `basis` the kernels that stand in for those of all spatial convolutions ("3x1+1x3") or of
    single layers; a `plan` stands for all of them. A stage begins where the output size changes, or with
    stage_by="block" at every spatial convolution; `insert_1x1` puts a 1x1 convolution behind groups that nothing mixes;
    `partial` leaves convolutions alone whose shapes are not known. A path is read with the keywords of `rootgen.read`.
    RootgenError where nothing can take the groups.
    """
    check_keywords(transform, reading)
    wanted = chosen(plan, root, column, tree, group, basis=basis)
    if wanted == Plan():
        raise errors.RootgenError(
            "no groups asked for", hint="root=N, column=N, tree=N, group={LAYER: N} or basis=SHAPES"
        )
    stages_by = errors.word("stage_by", stage_by, transformer.STAGE_BY) or transformer.STAGE_BY[0]
    inserting = errors.flag("insert_1x1", insert_1x1)
    loaded = net_of("net", net, **reading)
    how = loaded.reading
    if how.text is None:
        raise errors.RootgenError(
            "a caffemodel has no text to change", where=loaded.source, hint="pass the net's prototxt"
        )
    options = transformer.TransformOptions(
        stages_by,
        loaded.phase,
        how.level,
        how.stages,
        how.input_shape,
        how.given,
        inserting,
        how.lenient,
        how.beside,
        errors.flag("partial", partial),
    )
    found = transformer.transform(how.text, wanted, loaded.source, options)
    for warning in found.warnings:
        if warning not in loaded.notes:  # told when it was read
            log.warning(warning)
    return found
