"""The programs that peers run: each the least that its server needs to answer the workload."""
