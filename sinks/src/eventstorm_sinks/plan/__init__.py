"""Planning: how many routers, workers and servers a rate of events takes, and whether that holds when simulated."""
