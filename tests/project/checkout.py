"""The checkout as data: its folders, its modules, its configuration."""

from __future__ import annotations

import configparser
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("export", "train", "benchmarks")


def configuration() -> configparser.ConfigParser:
    config = configparser.ConfigParser(interpolation=None)
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config


def scripts() -> dict[str, str]:
    """Console script to ``module:function``."""
    lines = configuration()["options.entry_points"]["console_scripts"].strip().split("\n")
    return dict(line.split(" = ") for line in lines)


def sources() -> Iterator[tuple[str, Path]]:
    """Every module as (dotted name, file); the linked stages once, in their own folders."""
    for top, package in [("lightseg", "lightseg"), *((stage, f"lightseg.{stage}") for stage in STAGES)]:
        for path in sorted((ROOT / top).rglob("*.py")):
            parts = path.relative_to(ROOT / top).with_suffix("").parts
            if not (top == "lightseg" and parts[0] in STAGES):  # before Python 3.13 rglob walks through links
                yield ".".join([package, *(p for p in parts if p != "__init__")]), path


def packages() -> dict[str, Path]:
    """Dotted name of every package to its folder."""
    return {name: path.parent for name, path in sources() if path.name == "__init__.py"}


def command_modules() -> dict[str, Path]:
    return {name: path for name, path in sources() if path.name == "cli.py" or path.name.endswith("_cli.py")}
