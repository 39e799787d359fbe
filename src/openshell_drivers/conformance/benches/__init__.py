"""What a check is given: the driver's service, its platform, and words to judge with."""
