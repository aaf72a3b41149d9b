"""Who else than a person had to do with what is theirs: recorded, listed, and proven complete."""
