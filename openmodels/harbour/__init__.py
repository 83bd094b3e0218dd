"""Port Lark: the seeded world that every miniature is trained and tested on."""

from openmodels.harbour.text import TASKS, Harbour, Instance, instances
from openmodels.harbour.tools import SCHEMAS

__all__ = ["SCHEMAS", "TASKS", "Harbour", "Instance", "instances"]
