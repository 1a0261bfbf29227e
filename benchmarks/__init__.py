"""The papers' experiments, rerun: ``python -m benchmarks CASE``; a package a case."""
