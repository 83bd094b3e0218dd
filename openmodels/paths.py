"""Where the course keeps its files: shipped miniatures, and those trained on this machine."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def shipped_dir(name: str) -> Path:
    """Folder of a miniature's weights, whether or not it has been trained yet."""
    return ROOT / "models" / name


def build_dir(name: str) -> Path:
    """Folder where training a miniature writes, unless told otherwise."""
    return ROOT / "build" / name


def weights_dir(name: str | Path) -> Path:
    """Where a miniature's weights lie: shipped, else built here, else `name` as a folder itself.

    Raises FileNotFoundError where there are none.
    """
    for place in (shipped_dir(str(name)), build_dir(str(name)), Path(name)):
        if (place / "model.safetensors").exists():
            return place
    raise FileNotFoundError(f"no model.safetensors in {name}; train it first, or check the name")
