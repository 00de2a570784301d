"""Models: asked within bounds, answered with values, never needed for the queue to be right."""
