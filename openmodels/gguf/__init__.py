"""GGUF files: written from a model folder, read, described by a Modelfile."""
