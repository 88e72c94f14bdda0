"""What Batten changes in a Pod, what it refuses, and why: the pure engine and its offline doors."""
