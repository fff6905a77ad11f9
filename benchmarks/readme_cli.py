"""``python -m lightseg.benchmarks.readme_cli``: the tables of the README, printed or brought up to date in place."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lightseg import cli

PROG = "python -m lightseg.benchmarks.readme_cli"
EXAMPLES = f"""\
  {PROG}                       print the tables
  {PROG} --write README.md     put them between their markers
  {PROG} --json                the same rows as JSON
  {PROG} --latency r.json --out docs   latency.json and latency.md of a result of lightseg-bench
"""


def parser() -> argparse.ArgumentParser:
    p = cli.command(PROG, "Make the tables of the README from the declared models.", EXAMPLES)
    p.add_argument("--write", type=Path, metavar="FILE", help="replace the tables in this file")
    p.add_argument("--latency", type=Path, metavar="FILE", help="make the page of latencies of this result instead")
    p.add_argument("--out", type=Path, default=Path("docs"), metavar="DIR", help="where that page goes (default docs)")
    cli.add_json(p)
    return p


def main(argv: Sequence[str] | None = None) -> int:
    return cli.run(parser(), _main, argv)


def _main(args: argparse.Namespace) -> int:
    from lightseg.benchmarks.readme import TABLES, refresh

    if args.latency:
        from lightseg.benchmarks.measured_tables import write_pages

        written = write_pages(args.latency, args.out)
        print(f"wrote {', '.join(map(str, written))}", file=sys.stderr)
        cli.emit_json(args.json, [str(path) for path in written])
        return 0
    tables = {name: make() for name, make in TABLES.items()}
    if args.write:
        changed = refresh(args.write)
        print(f"{args.write}: {'tables renewed' if changed else 'nothing to change'}", file=sys.stderr)
    elif args.json != "-":
        print("\n\n".join("\n".join(lines) for lines in tables.values()))
    cli.emit_json(args.json, tables)
    return 0


if __name__ == "__main__":
    sys.exit(main())
