"""The version, in a module of its own so that `tracebee -V` and the build need import nothing else."""

VERSION = "0.1.0"
