"""Measurements that a reader can repeat; each module runs by itself with `python -m benchmarks.<name>`."""
