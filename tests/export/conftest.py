"""Fixtures of the export stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from lightseg.export.artifact import Artifact
from lightseg.export.pipeline import Request, export
from tests.export.subjects import lively, reference, require, small_size

Exported = Callable[..., Artifact]


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """``exported(model, target, **options)``: the small model's artifact, made once; copy it before damaging it."""
    folder = tmp_path_factory.mktemp("artifacts")
    made: dict[Any, Artifact] = {}

    def make(name: str, target: str, **options: Any) -> Artifact:
        require(target)
        key = (name, target, *sorted(options.items()))
        if key not in made:
            engines: dict[str, Any] = {"capabilities": ()}  # compiling takes a second, and no test here runs them
            request = Request(input_size=small_size(name), **engines | options)
            made[key] = export(lively(name), target, folder, request, reference(name))
        return made[key]

    return make
