//! The face of raftkv: dispatch only.

fn main() {}
