//! The Unix sockets: one for hooks and local commands, one for proxies.
