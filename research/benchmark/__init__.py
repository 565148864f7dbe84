"""Models beside simple methods (baselines) and the best that is possible (limit)."""

from __future__ import annotations

from research.benchmark.benchmark import Benchmark, run_benchmark
from research.benchmark.report import write_benchmark

__all__ = ["Benchmark", "run_benchmark", "write_benchmark"]
