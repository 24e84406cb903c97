"""The exported student: network, processor and model card in one folder, and what it says of clips."""
