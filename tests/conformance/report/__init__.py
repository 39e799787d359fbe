"""What a run leaves behind: verdicts, documents, pages."""
