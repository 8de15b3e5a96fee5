"""Reports: the stored form of results, and how a person sees them."""
