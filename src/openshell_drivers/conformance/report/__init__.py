"""What a run leaves behind: `model` is its shape, the other modules write it down."""
