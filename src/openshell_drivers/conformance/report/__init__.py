"""What a run leaves behind: `model` is its shape, the other modules judge it and write it down.

`documents`, `junit`, `html` and `badge` each make one file. `verdicts` says
what results amount to and `consistency` whether a report agrees with itself. `diff` compares two
reports and `differences` shows that. `schema` publishes the shape; `redact` takes secrets out.
"""
