"""The reference predictions: what the full-precision network says of the masked texts, made once and kept in a file."""
