"""Generated from protos/distckpt/rpc/v1: do not edit, run `make proto`."""
