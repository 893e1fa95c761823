"""The generator: a row of a table and a plan of filter groups become prototxt text."""
