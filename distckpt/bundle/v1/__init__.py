"""Generated from protos/distckpt/bundle/v1/bundle.proto."""
