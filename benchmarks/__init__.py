"""The papers' experiments, rerun: ``python -m benchmarks CASE``; one module a case."""
