"""The way from masks to text: the reference's, what an artifact would have done along it, and what it does alone."""
