"""Throughput, latency and steadiness of a real TorchServe on this machine; see ../README.md."""
