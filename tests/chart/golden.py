"""The renderings that are looked at when a template changes.

``python -m chart.golden`` (with ``PYTHONPATH=tests:.``) shows what differs from the golden files, ``--update`` makes them anew.
"""

from __future__ import annotations

import difflib
import sys
from pathlib import Path

import yaml

from chart.release import MONITORING, render

FOLDER = Path(__file__).parent / "golden"
EXAMPLES = ("emulated", "llama-1b-8b-70b", "autoscaled", "locked-down")


def rendering(example: str) -> str:
    """The example as text: ordered, without what other tests compare (dashboards)."""
    release = render(example, api_versions=MONITORING)
    kept = [one for one in release.objects if "-dashboard-" not in one["metadata"]["name"]]
    kept.sort(key=lambda one: (one["kind"], one["metadata"]["name"]))
    return "---\n".join(yaml.dump(one, Dumper=yaml.CSafeDumper, width=160) for one in kept)


def difference(example: str) -> str:
    """From the golden file to the rendering, as a diff; empty where there is none."""
    path = FOLDER / f"{example}.yaml"
    golden = path.read_text(encoding="utf-8") if path.is_file() else ""
    lines = difflib.unified_diff(
        golden.splitlines(),
        rendering(example).splitlines(),
        f"golden/{example}.yaml",
        "rendered",
        lineterm="",
    )
    return "\n".join(lines)


def main() -> int:
    """Show or update."""
    if "--update" in sys.argv[1:]:
        for example in EXAMPLES:
            (FOLDER / f"{example}.yaml").write_text(rendering(example), encoding="utf-8")
        return 0
    differences = [one for one in map(difference, EXAMPLES) if one]
    sys.stdout.write("".join(f"{one}\n" for one in differences))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
