"""The artifact format: what a directory holds, and what it promises."""
