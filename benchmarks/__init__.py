"""What is measured against what; `python -m benchmarks` writes the table of docs/benchmarks.md."""
