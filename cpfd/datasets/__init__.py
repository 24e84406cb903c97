"""Data sets: the contract that all of CPFD reads, the adapters that write it, and the generated demo."""
