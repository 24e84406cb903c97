"""Many clips classified by one student, in shards that a killed run resumes at."""
