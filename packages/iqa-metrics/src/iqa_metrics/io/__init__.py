"""Input and output: images, tables of pairs and of scores, files written atomically."""
