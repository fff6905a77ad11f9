"""Weights files: where they are found, how they are checked, read and written.

Order of search for named weights: the directory in ``LIGHTSEG_WEIGHTS``, the package, the user's cache, a download.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lightseg.download import download
from lightseg.errors import LightsegError, WeightsError
from lightseg.files import atomic_path
from lightseg.spec import Figure, ModelSpec, Preprocess, Weights

State = dict[str, Tensor]
PACKAGED = Path(__file__).parent / "pretrained"


def cache_dir() -> Path:
    """``$XDG_CACHE_HOME/lightseg`` or ``~/.cache/lightseg``."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lightseg"


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def locate(spec: ModelSpec, weights: Weights) -> Path:
    """The file of named weights, downloaded into the cache when it is nowhere else.

    Errors: `WeightsError` with the three ways out.
    """
    folder = os.environ.get("LIGHTSEG_WEIGHTS")
    places = [Path(folder)] if folder else []
    places += [PACKAGED] if weights.packaged else []
    places.append(cache_dir())
    for place in places:
        if (place / weights.file).is_file():
            return place / weights.file
    target = cache_dir() / weights.file
    reason = "the weights have no download address"
    if weights.url:
        try:
            return download(weights.url, target, weights.sha256)
        except LightsegError as error:
            reason = str(error)
    elif weights.packaged:
        reason = "it belongs in the package; install lightseg again"
    raise WeightsError(
        f"no weights for {spec.name}.{weights.tag}: {weights.file} is not in "
        f"{', '.join(str(p) for p in places)} and {reason}; either point LIGHTSEG_WEIGHTS at a folder that holds it, "
        f"or {f'fetch {weights.url} yourself and ' if weights.url else ''}pass --weights FILE, "
        "or take --weights random (architecture only)"
    )


def load_named(spec: ModelSpec, weights: Weights) -> State:
    path = locate(spec, weights)
    found = sha256(path)
    if found != weights.sha256:
        raise WeightsError(
            f"{path} is not {spec.name}.{weights.tag}: sha256 {found[:16]}… instead of {weights.sha256[:16]}… "
            "(damaged or another version); delete it and run again"
        )
    return _fit(spec, _read(path)[0], path)


def load_path(spec: ModelSpec, path: Path) -> tuple[Weights, State]:
    """The weights in a file the user names, with what is known of them.

    A safetensors file of ours says itself how it wants to be fed; a released file is recognised by its hash;
    any other file is fed as the model's ``clova`` weights are, and its ``origin`` says so.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; check the path given to --weights")
    digest = sha256(path)
    state, metadata = _read(path)
    described = _described(spec, metadata["lightseg"], path, digest) if "lightseg" in metadata else None
    state = _fit(spec, state, path)
    for known in spec.weights:
        if known.sha256 == digest:
            return known, state
    if described:
        return described, state
    released = next(w for w in spec.weights if w.tag == "clova")
    return replace(
        released,
        tag="custom",
        file=path.name,
        sha256=digest,
        url=None,
        licence="unknown: the file says nothing",
        origin=f"{path.name}; preprocessing assumed to be that of the clova weights",
        figures={},
    ), state


def random_weights(spec: ModelSpec, preprocess: Preprocess, seed: int = 0) -> tuple[Weights, State]:
    """Seeded random parameters for work on the architecture alone, always labelled as such.

    Batch-norm statistics and PReLU slopes are random too (slopes on both sides of zero), so that an export of them
    exercises every term.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = spec.build()
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None and module.running_var is not None
                nn.init.normal_(module.running_mean, std=0.1)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, std=0.1)
            elif isinstance(module, nn.PReLU):
                nn.init.uniform_(module.weight, -0.5, 1.0)
    state = net.state_dict()
    digest = hashlib.sha256(b"".join(v.numpy().tobytes() for v in state.values())).hexdigest()
    record = Weights(
        tag="random",
        file="",
        sha256=digest,
        licence="none",
        origin=f"random initialisation, seed {seed}; architecture only, the masks mean nothing",
        preprocess=preprocess,
    )
    return record, state


def save_weights(path: Path, spec: ModelSpec, weights: Weights, state: Mapping[str, Tensor]) -> str:
    """Write a safetensors file that says what it is; return its sha256. Atomic; denormals are set to zero."""
    from safetensors.torch import save

    described = {
        "model": spec.name,
        "tag": weights.tag,
        "licence": weights.licence,
        "origin": weights.origin,
        "preprocess": weights.preprocess.to_dict(),
        "figures": {k: vars(f) for k, f in weights.figures.items()},
    }
    tensors = {k: v.detach().cpu().contiguous() for k, v in without_denormals(state).items()}
    with atomic_path(path) as temporary:
        temporary.write_bytes(save(tensors, {"lightseg": json.dumps(described, sort_keys=True)}))
    return sha256(path)


def without_denormals(state: Mapping[str, Tensor]) -> State:
    """The same tensors with every denormal float set to zero."""
    clean: State = {}
    for name, value in state.items():
        if value.is_floating_point():
            tiny = torch.finfo(value.dtype).tiny
            value = torch.where(value.abs() < tiny, torch.zeros_like(value), value)
        clean[name] = value
    return clean


def _described(spec: ModelSpec, text: str, path: Path, digest: str) -> Weights:
    """What a file written by `save_weights` says of itself."""
    try:
        facts: dict[str, Any] = json.loads(text)
        model = facts["model"]
        weights = Weights(
            tag=facts["tag"],
            file=path.name,
            sha256=digest,
            licence=facts["licence"],
            origin=facts["origin"],
            preprocess=Preprocess.from_dict(facts["preprocess"]),
            figures={k: Figure(**f) for k, f in facts["figures"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: its description is damaged ({error!r}); write the file again") from error
    if model != spec.name:
        raise WeightsError(f"{path} holds weights of {model}, not of {spec.name}; use --model {model}")
    return weights


def _read(path: Path) -> tuple[State, dict[str, str]]:
    """Tensors and metadata of a safetensors or PyTorch file. Never unpickles code."""
    try:
        if path.suffix == ".safetensors":
            from safetensors import safe_open

            with safe_open(path, framework="pt") as file:
                return {k: file.get_tensor(k) for k in list(file.keys())}, dict(file.metadata() or {})
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpicklers raise a dozen types on a damaged file
        raise WeightsError(
            f"{path} cannot be read as weights ({type(error).__name__}); it is damaged or no weights file; "
            "fetch it again or pass another --weights FILE"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("net"), dict):
        raise WeightsError(
            f"{path} is what a training run goes on from, and does not say how to feed the network; the run's weights "
            "are the .safetensors file that it writes at its end"
        )
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no dictionary of tensors; pass the file of a model's state_dict")
    return state, {}


def _fit(spec: ModelSpec, state: Mapping[str, Tensor], path: Path) -> State:
    """Names and shapes of ``spec``'s network, denormals zeroed; refuse anything that does not fit exactly."""
    with torch.device("meta"):  # names and shapes only
        expected = spec.build().state_dict()
    given = {_rename(k.removeprefix("module."), spec.upstream_names): v for k, v in state.items()}
    counters = {k: torch.zeros_like(v, device="cpu") for k, v in expected.items() if k.endswith("num_batches_tracked")}
    given = {**counters, **given}  # some released files lack the counters, which inference ignores
    missing, extra = expected.keys() - given.keys(), given.keys() - expected.keys()
    if missing or extra:
        raise WeightsError(
            f"{path} is not a weights file of {spec.name}: {len(missing)} tensors are missing and {len(extra)} are "
            f"foreign (for instance {min(missing or extra)}); check --model"
        )
    fitted = {k: _shaped(k, given[k], v, path) for k, v in expected.items()}
    return without_denormals(fitted)


def _shaped(name: str, value: Tensor, like: Tensor, path: Path) -> Tensor:
    if value.shape != like.shape and value.dim() == 2 and (*value.shape, 1, 1) == like.shape:
        value = value[:, :, None, None]  # released linear layers are 1×1 convolutions here
    if value.shape != like.shape:
        raise WeightsError(f"{path}: {name} has shape {list(value.shape)}, expected {list(like.shape)}; check --model")
    if value.is_floating_point() and not bool(torch.isfinite(value).all()):
        raise WeightsError(f"{path}: {name} holds NaN or infinity; the file is damaged or its training diverged")
    return value.to(like.dtype)


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, ours in rules:
        name = re.sub(pattern, ours, name)
    return name
