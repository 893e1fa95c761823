"""Nets: from text or a file to the graph of one phase, its shapes, what it costs, and how two of them differ."""
