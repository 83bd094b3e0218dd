"""GGUF files: export a model folder, read a header, parse a Modelfile."""
