"""Replace files that other programs hold open, and name folders that cannot be written to."""

from __future__ import annotations

import os
import time
from pathlib import Path

PATIENCE = 2.0  # seconds for which a file that another program holds open is tried again


def replace(draft: str | Path, target: str | Path, patience: float = PATIENCE) -> None:
    """Move `draft` onto `target` in one step, as `os.replace` does.

    Windows refuses to replace a file that a program has open, be it a virus scanner for a moment:
    the move is tried again for `patience` seconds. Raises OSError as `os.replace` does.
    """
    ends = time.monotonic() + patience
    while True:
        try:
            os.replace(draft, target)
            return
        except PermissionError:
            if time.monotonic() >= ends:
                raise
            time.sleep(0.05)


def user_folder(variable: str, *default: str) -> Path:
    """Return the folder that an environment variable names, else `default` below the home folder.

    The folder is made if it does not exist. Raises OSError (PermissionError among them), with the
    variable's name, if it cannot be made or written to.
    """
    folder = Path(os.environ.get(variable) or os.path.join(os.path.expanduser("~"), *default))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError("it cannot be written to")
    except OSError as error:
        raise OSError(
            f"the folder {folder} is not usable ({error.strerror or error}). Set {variable} to a "
            "folder of yours that can be written to."
        ) from error
    return folder
