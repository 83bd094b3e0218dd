"""Running models: the engine, the local Ollama stand-in, load and deployment."""
