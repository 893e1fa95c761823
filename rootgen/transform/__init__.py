"""Filter groups for any net: which convolutions are in which stage, and the text with other groups."""
