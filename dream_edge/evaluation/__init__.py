"""lm-evaluation-harness on artifacts and on their full-precision reference.

`python -m dream_edge.evaluation` is the harness's own command with the model `dream-edge` in it. `subject`,
`likelihood` and `prompts` compute the answers and do without the harness; `harness` translates.
"""
