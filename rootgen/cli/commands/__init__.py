"""The commands, a module each: `HELP`, `add_arguments(parser)` and `run(args)`."""
