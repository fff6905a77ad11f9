"""What a run says while it goes: a progress bar, a CSV file, TensorBoard."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from lightseg.errors import MissingExtra, OutputError
from lightseg.files import atomic_path
from lightseg.train.augment import Image
from lightseg.train.sheets import at_most

Row = dict[str, float]


class Log(Protocol):
    """Told of the teachers' answers, of every step, of every epoch with all rows so far, and of pictures."""

    def stage(self, name: str) -> Log:
        """Where a stage before the network's own is told of."""
        ...

    def taught(self, done: int, images: int) -> None: ...

    def step(self, step: int, steps: int, loss: float) -> None: ...

    def epoch(self, rows: Sequence[Row]) -> None: ...

    def picture(self, name: str, image: Image, step: int) -> None: ...


class Silent:
    """Says nothing."""

    def stage(self, name: str) -> Silent:
        return self

    def taught(self, done: int, images: int) -> None:
        pass

    def step(self, step: int, steps: int, loss: float) -> None:
        pass

    def epoch(self, rows: Sequence[Row]) -> None:
        pass

    def picture(self, name: str, image: Image, step: int) -> None:
        pass


class Files:
    """``log.csv`` (rewritten whole, so a resumed run has no double rows) and TensorBoard events, in ``out``."""

    def __init__(self, out: Path) -> None:
        self.out = out
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise MissingExtra("training", "train", "tensorboard") from error
        self.csv = out / "log.csv"
        try:
            self.board = SummaryWriter(out / "tensorboard")
        except OSError as error:
            raise OutputError(f"cannot write to {out} ({error.strerror}); choose another --out DIR") from error

    def stage(self, name: str) -> Files:
        return Files(self.out / name)

    def taught(self, done: int, images: int) -> None:
        pass

    def step(self, step: int, steps: int, loss: float) -> None:
        if step % 20 == 0:
            self.board.add_scalar("loss/step", loss, step)

    def epoch(self, rows: Sequence[Row]) -> None:
        write_csv(self.csv, rows)
        for name, value in rows[-1].items():
            self.board.add_scalar(name, value, int(rows[-1]["epoch"]))
        self.board.flush()

    def picture(self, name: str, image: Image, step: int) -> None:
        self.board.add_image(name, at_most(image, 1024), step, dataformats="HWC")


class Progress:
    """A bar with the time left, and a line per epoch, on standard error."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        self.bar = Bar(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("elapsed"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(compact=True),
            console=Console(stderr=True),
            speed_estimate_period=120,
        )
        self.task = self.bar.add_task("starting", total=None)

    def stage(self, name: str) -> Progress:
        return self

    def taught(self, done: int, images: int) -> None:
        self.bar.update(self.task, completed=done, total=images, description="asking the teachers")
        if done == images:
            self.bar.reset(self.task)

    def step(self, step: int, steps: int, loss: float) -> None:
        self.bar.update(self.task, completed=step, total=steps, description=f"loss {loss:.4f}")

    def epoch(self, rows: Sequence[Row]) -> None:
        shown = {k: v for k, v in rows[-1].items() if not k.startswith("share_")}
        self.bar.console.print("  ".join(f"{k} {v:.5g}" for k, v in shown.items()), highlight=False, soft_wrap=True)

    def picture(self, name: str, image: Image, step: int) -> None:
        pass


class Several:
    """Tells all of them."""

    def __init__(self, *logs: Log) -> None:
        self.logs = logs

    def stage(self, name: str) -> Several:
        return Several(*(log.stage(name) for log in self.logs))

    def taught(self, done: int, images: int) -> None:
        for log in self.logs:
            log.taught(done, images)

    def step(self, step: int, steps: int, loss: float) -> None:
        for log in self.logs:
            log.step(step, steps, loss)

    def epoch(self, rows: Sequence[Row]) -> None:
        for log in self.logs:
            log.epoch(rows)

    def picture(self, name: str, image: Image, step: int) -> None:
        for log in self.logs:
            log.picture(name, image, step)


def write_csv(path: Path, rows: Sequence[Row] | Sequence[dict[str, str | float]]) -> None:
    """Rows of equal or differing keys as CSV, atomically; a key a row lacks is an empty cell."""
    names = list(dict.fromkeys(k for row in rows for k in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_path(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
