"""lm-evaluation-harness on artifacts and on their full-precision reference.

`python -m dream_edge.evaluation` is the harness's own command with the model `dream-edge` in it. What a model answers
lies in `subject`, `likelihood` and `prompts`, which do without the harness; `harness` translates.
"""
