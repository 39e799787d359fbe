"""What the SDK costs, side by side with bare `grpc.aio`. See README.md."""
