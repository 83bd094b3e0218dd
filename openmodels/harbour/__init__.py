"""Port Lark: the seeded world that every miniature is trained and tested on."""

from openmodels.harbour.office import Office
from openmodels.harbour.text import TASKS, Harbour, Instance, instances
from openmodels.harbour.tools import OFFICE_SCHEMAS, SCHEMAS

__all__ = ["OFFICE_SCHEMAS", "SCHEMAS", "TASKS", "Harbour", "Instance", "Office", "instances"]
