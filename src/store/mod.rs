//! State in SQLite: all SQL, never network.
