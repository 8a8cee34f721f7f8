"""Where models come from: references, the cache folder, fetching."""
