"""Throughput, latency and stability of a real TorchServe on this machine; see ../README.md."""
