"""The four tasks that the tiny Dream learns: seeded case generators, and checkers that do not depend on them."""
