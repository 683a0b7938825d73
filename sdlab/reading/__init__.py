"""Read completions and problems from files of other programs, in many formats, and never execute them."""
