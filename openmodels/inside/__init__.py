"""Take a trained model apart: its layers, experts, reasoning and probabilities."""
