"""Import adapters: what others have becomes a data set of the contract."""
