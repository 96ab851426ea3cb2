"""The paper's tables again: rows as recipes, run over seeds, beside the paper's numbers."""
