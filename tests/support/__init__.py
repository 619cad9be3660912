"""What several tests build their world from."""
