"""Files in and out: images, tables of pairs and of scores, files that are whole or absent."""
