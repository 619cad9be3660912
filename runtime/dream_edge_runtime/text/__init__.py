"""From text to token ids: tokenizer, conversations, templates with holes."""
