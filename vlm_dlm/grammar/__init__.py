"""Answers of a form that clients ask for: grammars over the tokens of a checkpoint."""
