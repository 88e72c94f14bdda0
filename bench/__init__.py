"""What a review costs: the engine alone, one operator process over HTTPS, its memory."""
