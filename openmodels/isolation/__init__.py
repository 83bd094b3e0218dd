"""What keeps code in its place: a network watch and a sandbox for programs."""
