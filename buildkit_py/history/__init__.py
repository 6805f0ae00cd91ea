"""What builds were like: steps, times, logs, inputs and results; kept in the store, and explained."""
