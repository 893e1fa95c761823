"""From a trained net to one that runs elsewhere: what training needed is folded away, and checked number by number."""
