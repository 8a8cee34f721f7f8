"""The command line of the device benchmark."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import torch
import transformers
from benchmarks.comparison.machine import cpu_name, slug
from benchmarks.device_steps import engines
from benchmarks.device_steps.exactness import check_float32, count_rounding
from benchmarks.device_steps.floor import bandwidth, bytes_of_weights
from benchmarks.device_steps.shapes import SHAPES
from benchmarks.device_steps.timing import time_generate, time_steps
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

console = Console()


@click.command(help=__doc__)
@click.option("--device", default="cuda", show_default=True, help="cuda, cuda:N or cpu.")
@click.option(
    "--shapes",
    default="1b,8b",
    show_default=True,
    help=f"Sizes, by comma: {', '.join(SHAPES)}.",
    callback=lambda _c, _p, value: [_known(name) for name in value.split(",")],
)
@click.option(
    "--context", default=1024, show_default=True, type=click.IntRange(16, 16_384), help="Tokens in the cache."
)
@click.option(
    "--out",
    default=Path("benchmarks/results"),
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder.",
)
def main(device: str, shapes: list[str], context: int, out: Path) -> None:
    """Check, then time."""
    place = torch.device(device)
    if place.type == "cuda" and not torch.cuda.is_available():
        raise click.ClickException(
            "no CUDA device is there; try: python benchmarks/gpu.py --device cpu --shapes tiny --context 64"
        )
    if place.type == "cpu":
        torch.set_num_threads(1)
    name = torch.cuda.get_device_name(place) if place.type == "cuda" else cpu_name()
    worst = check_float32(SHAPES["tiny"], place)
    console.print(
        f"exact in float32: captured and ragged steps agree, worst chosen logit {worst:.1g} below the best"
    )
    speed = bandwidth(place)
    console.print(f"{name}: {speed / 1e9:.0f} GB/s read and written")
    with Progress(console=console, transient=True) as progress:
        results = [
            _measure(shape, place, context=context, bytes_per_s=speed)
            for shape in progress.track(shapes, description="shapes")
        ]
    for result in results:
        console.print(_table(result))
    file = out / f"steps-{slug(name)}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(_document(name, speed, results), indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {file}")


def _measure(shape: str, place: torch.device, *, context: int, bytes_per_s: float) -> dict[str, Any]:
    dtype = torch.bfloat16 if place.type == "cuda" else torch.float32
    model = SHAPES[shape].build(device=place, dtype=dtype)
    times = time_generate(model, context=context, bytes_per_s=bytes_per_s)
    times += time_steps(model, context=context, bytes_per_s=bytes_per_s)
    weights = bytes_of_weights(model)
    del model
    engines.free(place)
    rounding = count_rounding(SHAPES[shape], place)
    engines.free(place)
    return {"shape": shape, "dtype": str(dtype), "weight_bytes": weights, "times": times, "bf16": rounding}


def _table(result: dict[str, Any]) -> Table:
    table = Table(title=f"{result['shape']}, {result['dtype'].removeprefix('torch.')}", title_justify="left")
    for column in ("launch", "sessions", "tokens each", "ms", "floor ms", "of floor"):
        table.add_column(column, justify="left" if column == "launch" else "right")
    for time in result["times"]:
        ratio = f"{time.ms / time.floor_ms:.2f}x"
        table.add_row(
            time.launch,
            str(time.num_sessions),
            str(time.num_tokens),
            f"{time.ms:.3f}",
            f"{time.floor_ms:.3f}",
            ratio,
        )
    rounding = result["bf16"]
    table.caption = (
        f"bf16: {rounding.mismatches} of {rounding.positions} greedy choices differ between steps of "
        f"{rounding.width} tokens and of one"
    )
    return table


def _document(name: str, speed: float, results: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "device": name,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "bytes_per_s": speed,
        "results": [
            {**result, "times": [asdict(time) for time in result["times"]], "bf16": asdict(result["bf16"])}
            for result in results
        ],
    }


def _known(name: str) -> str:
    if name not in SHAPES:
        raise click.BadParameter(f"{name!r} is none of {', '.join(SHAPES)}")
    return name
