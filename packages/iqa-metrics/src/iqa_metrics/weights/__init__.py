"""Pretrained weights: finding, fetching and checking their files, and loading them."""
