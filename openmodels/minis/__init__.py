"""The miniatures: where they live, and how they are built, trained and measured.

`path("mini-qwen")` is a folder in the layout `from_pretrained` reads.
"""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def path(name: str) -> Path:
    """Folder of a miniature's weights, whether or not it has been trained yet."""
    return ROOT / "models" / name


def available() -> list[str]:
    """Names of the miniatures whose weights are in `models/`, sorted."""
    return sorted(p.parent.name for p in (ROOT / "models").glob("*/model.safetensors"))
