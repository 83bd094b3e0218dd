"""Models as files that llama.cpp runs, the engine that runs them, and the server before it."""
