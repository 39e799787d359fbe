"""The conformance suite: whether a driver, in any language, will work under the real gateways.

``pytest --driver=NAME`` and ``openshell-drivers verify NAME`` run it. It is black-box: it talks to
the driver's socket, and knows nothing of the SDK's own half.
"""
