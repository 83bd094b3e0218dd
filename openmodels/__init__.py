"""Open-weight language models on your own machine: the package behind the course.

Importing it is cheap. `load`, `device`, `connect` and `client` import torch or httpx, so they are
loaded on first use.
"""

from openmodels import environment

__version__ = "1.0.0"
__all__ = ["client", "connect", "device", "load"]

environment.report()


def __getattr__(name: str):
    if name == "connect":
        from openmodels.serving.connect import connect

        return connect
    if name == "client":
        from openmodels.serving.model_client import client

        return client
    if name in __all__:
        from openmodels import loading

        return getattr(loading, name)
    raise AttributeError(f"module 'openmodels' has no attribute {name!r}")
