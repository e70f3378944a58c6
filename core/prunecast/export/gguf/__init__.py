"""Export to GGUF files that stock llama.cpp loads."""
