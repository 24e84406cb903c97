"""What a reviewer of a change needs to know: `cpfd review`. No stage imports it, and it never trains."""
