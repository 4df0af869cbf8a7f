"""Side-by-side measurements that anyone can repeat: ``python -m bench``; see bench/README.md."""
