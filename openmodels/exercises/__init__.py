"""The exercises of the labs: one module per lab, named `lab` and its number."""
