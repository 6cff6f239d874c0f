"""The core: one pass through a network, within a memory budget, compiled if asked for."""
