"""Weights: where they are found, how they are fetched and checked, and how a network is filled."""
