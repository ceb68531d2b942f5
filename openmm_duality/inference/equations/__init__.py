"""The equations of an inference: columns, rows, targets, penalties, accumulation, solution."""
