"""Weights of channels, learned from opinion: fitted, judged on unseen references, kept in files."""
