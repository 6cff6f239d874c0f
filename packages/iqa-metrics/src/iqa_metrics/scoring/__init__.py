"""Scores of pairs: of one, of a table, and how well a table of them agrees with people."""
