"""The agent losses: forms as data, the evaluator, the model file."""
