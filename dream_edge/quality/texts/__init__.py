"""What networks are compared on: texts, their token ids, and the masks drawn over them."""
