"""Where the course keeps its files: shipped miniatures, and miniatures trained on this machine."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def shipped_dir(name: str) -> Path:
    """Return the folder of a shipped miniature, whether or not it exists."""
    return ROOT / "models" / name


def build_dir(name: str) -> Path:
    """Return the default output folder for training a miniature."""
    return ROOT / "build" / name


def weights_dir(name: str | Path) -> Path:
    """Return the folder with a miniature's weights: shipped, built here, or the path `name`.

    Raises FileNotFoundError if none of them has weights.
    """
    for folder in (shipped_dir(str(name)), build_dir(str(name)), Path(name)):
        if (folder / "model.safetensors").exists():
            return folder
    raise FileNotFoundError(f"no model.safetensors in {name}; train it first, or check the name")
