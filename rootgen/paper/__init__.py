"""The paper itself: what it prints beside what its networks count and measure, its figures, its experiment."""
