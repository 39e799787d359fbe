"""What ``make demo`` shows: a compute driver and a credentials driver at work, told so that nobody
has to know OpenShell beforehand.
"""
