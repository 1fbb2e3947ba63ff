//! `docker-credential-aliyun`, thin over its library.

fn main() {}
