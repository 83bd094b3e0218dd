"""The environment variables of the course's programs; standard library only.

Some variables stop a program that works elsewhere: PYTHONPATH, a plotting backend that is not
installed, a home folder that cannot be written to. Each such variable is removed or replaced, and
one line says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from setup_checks import is_writable

# Without them Python and JupyterLab use what is installed in .venv.
REMOVED = (
    *("PYTHONHOME", "PYTHONPATH", "PYTHONSTARTUP", "PYTHONPLATLIBDIR", "PYTHONEXECUTABLE"),
    *("PYTHONWARNINGS", "PYTHONOPTIMIZE", "PYTHONINSPECT", "PYTHONSAFEPATH"),
    *("JUPYTER_PATH", "JUPYTERLAB_DIR", "JUPYTER_NO_CONFIG"),  # other kernels, another JupyterLab
    *("MPLBACKEND", "TORCH_LOGS", "TORCH_LOGS_OUT"),  # matplotlib and torch raise for some values
)
SET = {
    "PYTHONUTF8": "1",  # Windows: files and pipes are cp1252 without it
    "PYTHONIOENCODING": "utf-8",
    "JUPYTER_PREFER_ENV_PATH": "1",  # the kernel of .venv, not one of the home folder
}
# Folders in which programs must be able to write: the variable, and the folder below .venv/home
# that replaces it.
FOLDERS = {
    "JUPYTER_CONFIG_DIR": "jupyter/config",
    "JUPYTER_DATA_DIR": "jupyter/data",
    "JUPYTERLAB_SETTINGS_DIR": "jupyter/config/lab/user-settings",
    "JUPYTERLAB_WORKSPACES_DIR": "jupyter/config/lab/workspaces",
    "IPYTHONDIR": "ipython",
    "MPLCONFIGDIR": "matplotlib",
    "HF_HOME": "huggingface",
    "OPENMODELS_CACHE": "cache",
}
OPTIONAL = ("JUPYTERLAB_SETTINGS_DIR", "JUPYTERLAB_WORKSPACES_DIR")  # they follow from the first


def scripts_folder(venv: Path) -> Path:
    """Return the folder in which a virtual environment keeps its programs."""
    return venv / ("Scripts" if os.name == "nt" else "bin")


def activated(venv: Path, values: Mapping[str, str]) -> dict[str, str]:
    """Return `values` as if `venv` had been activated, without what would lead out of it."""
    remaining = {name: value for name, value in values.items() if name.upper() not in REMOVED}
    path = str(scripts_folder(venv)) + os.pathsep + values.get("PATH", "")
    return {**remaining, **SET, "VIRTUAL_ENV": str(venv), "PATH": path}


def course(venv: Path, values: Mapping[str, str]) -> tuple[dict[str, str], list[str]]:
    """Return the environment of the course's programs, and a line for each thing that changed."""
    result = activated(venv, values)
    removed = sorted(name for name in values if name.upper() in REMOVED and values[name])
    lines = []
    if removed:
        lines.append(f"Ignored for the course's programs: {', '.join(removed)}.")
    return result, lines + replace_folders(venv, result)


def repaired(python: Path, values: dict[str, str]) -> dict[str, str]:
    """Return `values` as `import openmodels` repairs them in .venv; it prints a line for each.

    JupyterLab itself does not start with some values of ALL_PROXY. `values` is returned unchanged
    if the package cannot be imported.
    """
    code = "import json, os, openmodels; print(json.dumps(dict(os.environ)))"
    try:
        result = subprocess.run(
            [str(python), "-c", code], env=values, stdout=subprocess.PIPE, encoding="utf-8"
        )
        return json.loads(result.stdout)
    except (OSError, ValueError):
        return values


def home_is_writable(values: Mapping[str, str]) -> bool:
    """Return whether the home folder of an environment can be written to."""
    home = values.get("USERPROFILE" if os.name == "nt" else "HOME")
    if home is None:
        try:
            home = str(Path.home())
        except RuntimeError:
            return False
    return is_writable(Path(home))


def replace_folders(venv: Path, values: dict[str, str]) -> list[str]:
    """Replace folders that cannot be written to in `values`; return a line for each change."""
    home = home_is_writable(values)
    unusable = [
        name
        for name in FOLDERS
        if (not is_writable(Path(values[name])) if values.get(name) else not home)
        and (values.get(name) or name not in OPTIONAL)
    ]
    if not unusable:
        return []
    base = venv / "home"
    if not is_writable(venv):
        base = Path(tempfile.mkdtemp(prefix="openmodels-home-"))
    for name in unusable:
        values[name] = str(base / FOLDERS[name])
        Path(values[name]).mkdir(parents=True, exist_ok=True)
    cause = "the home folder cannot be written to" if not home else "they cannot be written to"
    return [f"{', '.join(unusable)}: replaced by folders in {base}, because {cause}."]
