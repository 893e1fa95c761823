"""Figures: as files, always the same bytes; and nets as pictures."""
