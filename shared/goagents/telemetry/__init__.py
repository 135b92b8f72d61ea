"""What GoAgents tells about itself: typed events, observed by hooks; one file a backend."""
