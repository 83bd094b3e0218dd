"""Machines of any size for the explorers' tests."""

from openmodels import doctor, sizing

GB = sizing.GB


def machine(memory: float, gpu: float = 0) -> doctor.Machine:
    """Return a machine with this much free memory, in GB."""
    return doctor.Machine(
        "Linux x86_64", "3.11", 2, 2, int(64 * GB), int(memory * GB), 0, "none", int(gpu * GB)
    )
