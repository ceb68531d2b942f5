"""The linear equations of an inference: design rows, targets, penalties, accumulation and solution."""
