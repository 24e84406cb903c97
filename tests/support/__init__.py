"""What tests share: files, projects, servers, written on the spot."""
