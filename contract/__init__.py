"""The contract as programs see it: compiling it, and what it says of each method."""
