"""What several cases share: methods, learning rates, reports, pictures, the cache, the victim."""
