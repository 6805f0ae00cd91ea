"""What the tests stand on: who they run as, the program under test, a real registry, and the leak check."""
