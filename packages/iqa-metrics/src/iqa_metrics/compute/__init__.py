"""The core: one pass through a network, within a memory budget, and compiled if asked."""
