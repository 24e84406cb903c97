"""The networks: X-VLM, the content-only student, and DF-X-VLM, the teacher that also reads dense features."""
