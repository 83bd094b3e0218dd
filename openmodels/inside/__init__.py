"""A trained model taken apart: its layers, its experts, its reasoning, its probabilities."""
