"""From the typed tree to operations: one module a concern, all working on one `Lowering`."""
